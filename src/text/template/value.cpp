#include "text/template/value.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "text/template/callable.h"

namespace sluice::jinja {

Value Value::Undefined(std::string hint) {
  Value value;
  value.data = UndefinedValue{std::make_shared<const std::string>(std::move(hint))};
  return value;
}

Value Value::Trusted(std::string_view text) {
  return TextPtr(std::make_shared<const TracedText>(TracedText::Trusted(text)));
}

template <class Pointer>
static auto* Get(const Value::Data& data) {
  const Pointer* pointer = std::get_if<Pointer>(&data);
  return pointer ? pointer->get() : nullptr;
}

const TracedText* Value::AsText() const { return Get<TextPtr>(data); }
const List* Value::AsList() const { return Get<ListPtr>(data); }
const Dict* Value::AsDict() const { return Get<DictPtr>(data); }
Namespace* Value::AsNamespace() const { return Get<std::shared_ptr<Namespace>>(data); }
Loop* Value::AsLoop() const { return Get<std::shared_ptr<Loop>>(data); }
const Callable* Value::AsCallable() const { return Get<std::shared_ptr<const Callable>>(data); }

const Int* Value::AsInt(Int& storage) const {
  if (const bool* b = std::get_if<bool>(&data)) {
    storage = *b ? 1 : 0;
    return &storage;
  }
  return std::get_if<Int>(&data);
}

bool Value::AsDouble(double& number) const {
  if (const double* d = std::get_if<double>(&data)) {
    number = *d;
    return true;
  }
  Int storage;
  const Int* i = AsInt(storage);
  if (i) number = static_cast<double>(*i);
  return i != nullptr;
}

bool Value::Truth() const {
  if (IsUndefined() || IsNone()) return false;
  double number;
  if (AsDouble(number)) return number != 0;
  if (const TracedText* text = AsText()) return !text->bytes.empty();
  if (const List* list = AsList())
    return list->kind == ListKind::kGenerator || !list->items.empty();
  if (const Dict* dict = AsDict()) return dict->size() != 0;
  return true;
}

bool Value::IsHashable() const {
  if (AsDict()) return false;
  const List* list = AsList();
  if (!list) return true;
  if (list->kind != ListKind::kTuple)
    return list->kind != ListKind::kList && list->kind != ListKind::kKeys &&
           list->kind != ListKind::kItems;
  return std::none_of(list->items.begin(), list->items.end(), [](const Value& item) {
    return item.AsDict() || (item.AsList() && item.AsList()->kind == ListKind::kList);
  });
}

int Value::Depth() const {
  if (const List* list = AsList()) return list->depth;
  if (const Dict* dict = AsDict()) return dict->depth();
  if (const Loop* loop = AsLoop()) return 1 + loop->items->depth;
  if (const Callable* call = AsCallable()) return 1 + call->receiver.Depth();
  return 0;
}

std::string_view Value::TypeName() const {
  static constexpr std::string_view kNames[] = {"undefined", "none", "bool",    "int",
                                                "float",     "str",  "list",    "dict",
                                                "namespace", "loop", "function"};
  static constexpr std::string_view kListNames[] = {
      "list", "tuple", "range", "dict_keys", "dict_values", "dict_items", "generator"};
  if (const List* list = AsList()) return kListNames[static_cast<size_t>(list->kind)];
  return kNames[data.index()];
}

bool Dict::KeyForm(const Value& key, std::string& form) {
  if (const TracedText* text = key.AsText()) {
    form = 's' + text->bytes;
    return true;
  }
  if (key.IsNone()) {
    form = "n";
    return true;
  }
  double number;
  if (!key.AsDouble(number)) return false;
  Int storage;
  const Int* whole = key.AsInt(storage);
  if (!whole && std::abs(number) < 0x1p126 && number == std::floor(number)) {
    storage = static_cast<Int>(number);
    whole = &storage;
  }
  form.assign(whole ? "i" : "f");
  if (whole) {
    form.append(reinterpret_cast<const char*>(whole), sizeof(Int));
  } else {
    form.append(reinterpret_cast<const char*>(&number), sizeof(double));
  }
  return true;
}

size_t Dict::Position(const Value& key) const {
  std::string form;
  if (!KeyForm(key, form)) return entries_.size();
  if (entries_.size() >= kIndexFrom) {
    const auto found = index_.find(form);
    return found == index_.end() ? entries_.size() : found->second;
  }
  std::string other;
  for (size_t i = 0; i < entries_.size(); ++i)
    if (KeyForm(entries_[i].first, other) && form == other) return i;
  return entries_.size();
}

const Value* Dict::Find(const Value& key) const {
  if (const TracedText* text = key.AsText()) return Find(text->bytes);
  const size_t position = Position(key);
  return position < entries_.size() ? &entries_[position].second : nullptr;
}

const Value* Dict::Find(std::string_view key) const {
  if (entries_.size() >= kIndexFrom) {
    const auto found = index_.find('s' + std::string(key));
    return found == index_.end() ? nullptr : &entries_[found->second].second;
  }
  for (const Entry& entry : entries_) {
    const TracedText* text = entry.first.AsText();
    if (text && text->bytes == key) return &entry.second;
  }
  return nullptr;
}

bool Dict::Set(Value key, Value value) {
  std::string form;
  if (!KeyForm(key, form)) return false;
  depth_ = std::max(depth_, 1 + value.Depth());
  const size_t position = Position(key);
  if (position < entries_.size()) {
    entries_[position].second = std::move(value);
    return true;
  }
  entries_.emplace_back(std::move(key), std::move(value));
  if (entries_.size() > kIndexFrom) {
    index_.emplace(std::move(form), position);
  } else if (entries_.size() == kIndexFrom) {
    for (size_t i = 0; i < entries_.size(); ++i)
      if (KeyForm(entries_[i].first, form)) index_.emplace(form, i);
  }
  return true;
}

static Status CheckDepth(int depth) {
  if (depth <= Budget::kValueDepthMax) return {};
  return Error(Code::kInvalidArgument, "values nest deeper than {}", Budget::kValueDepthMax);
}

Result<Value> MakeList(std::vector<Value> items, Budget& budget, ListKind kind) {
  RETURN_IF_ERROR(budget.Work(items.size() * sizeof(Value) + sizeof(List)));
  auto list = std::make_shared<List>();
  for (const Value& item : items) list->depth = std::max(list->depth, 1 + item.Depth());
  RETURN_IF_ERROR(CheckDepth(list->depth));
  list->items = std::move(items);
  list->kind = kind;
  return Value(ListPtr(std::move(list)));
}

Result<Value> MakeDict(Dict dict, Budget& budget) {
  RETURN_IF_ERROR(budget.Work(dict.size() * 2 * sizeof(Value) + sizeof(Dict)));
  RETURN_IF_ERROR(CheckDepth(dict.depth()));
  return Value(DictPtr(std::make_shared<Dict>(std::move(dict))));
}

}  // namespace sluice::jinja
