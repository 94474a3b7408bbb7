// Global functions, the methods of containers, and the look-up of all tables.
#include <algorithm>
#include <ctime>

#include "text/template/builtins.h"
#include "text/template/interpreter.h"
#include "text/template/operators.h"
#include "text/template/python_text.h"

namespace sluice::jinja {
namespace {

constexpr Int kRangeItemsMax = 100000;  // the sandbox's MAX_RANGE

Result<Value> Range(Interpreter& run, const Value&, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"start", "stop", "step"}, 1));
  if (!args.named.empty()) return Error(Code::kInvalidArgument, "range() takes no named arguments");
  TRY(Int start, bound.GetInt(0, 0));
  TRY(Int stop, bound.GetInt(1, 0));
  TRY(const Int step, bound.GetInt(2, 1));
  if (args.positional.size() == 1) stop = std::exchange(start, 0);
  if (step == 0) return Error(Code::kInvalidArgument, "range() with step 0");
  constexpr Int kFar = Int{1} << 100;  // keeps the difference inside 128 bits
  if (std::max({start, stop, step}) > kFar || std::min({start, stop, step}) < -kFar)
    return Error(Code::kInvalidArgument, "range() of integers over 100 bits");
  const Int count = step > 0 ? (stop - start + step - 1) / step : (start - stop - step - 1) / -step;
  if ((step > 0 ? start < stop : start > stop) && count > kRangeItemsMax)
    return Error(Code::kInvalidArgument, "range() of {} items; at most {} are allowed",
                 FormatInt(count), FormatInt(kRangeItemsMax));
  std::vector<Value> items;
  for (Int i = start; step > 0 ? i < stop : i > stop; i += step) items.emplace_back(i);
  return MakeList(std::move(items), run.budget(), ListKind::kRange);
}

// The arguments of dict() and namespace(): a mapping or pairs, then names.
Result<Dict> DictFrom(Interpreter& run, const Arguments& args) {
  Dict dict;
  if (args.positional.size() > 1) return Error(Code::kInvalidArgument, "takes one value and names");
  const auto set = [&](const Value& key, const Value& value) -> Status {
    RETURN_IF_ERROR(run.budget().Work(2 * sizeof(Value)));
    if (dict.Set(key, value)) return {};
    return Error(Code::kInvalidArgument, "a {} can not be a key", key.TypeName());
  };
  if (!args.positional.empty()) {
    if (const Dict* other = args.positional[0].AsDict()) {
      for (const auto& [key, value] : other->entries()) RETURN_IF_ERROR(set(key, value));
    } else {
      TRY(const ListPtr pairs, Iterate(args.positional[0], run.budget()));
      for (const Value& item : pairs->items) {
        TRY(const ListPtr pair, Iterate(item, run.budget()));
        if (pair->items.size() != 2)
          return Error(Code::kInvalidArgument, "{} items where a key and a value are expected",
                       pair->items.size());
        RETURN_IF_ERROR(set(pair->items[0], pair->items[1]));
      }
    }
  }
  for (const auto& [name, value] : args.named) RETURN_IF_ERROR(set(Value::Trusted(name), value));
  return dict;
}

Result<Value> MakeNamespace(Interpreter& run, const Value&, const Arguments& args) {
  TRY(const Dict dict, DictFrom(run, args));
  RETURN_IF_ERROR(run.budget().Work(sizeof(Namespace)));
  std::shared_ptr<Namespace> space = run.NewNamespace();
  for (const auto& [key, value] : dict.entries())
    if (const TracedText* name = key.AsText())
      space->attributes.insert_or_assign(name->bytes, value);
  return Value(std::move(space));
}

Result<Value> DictFunction(Interpreter& run, const Value&, const Arguments& args) {
  TRY(Dict dict, DictFrom(run, args));
  return MakeDict(std::move(dict), run.budget());
}

/// At most `bytes_max` bytes, no half character; a cut is marked.
std::string Shortened(std::string_view text, size_t bytes_max) {
  if (text.size() <= bytes_max) return std::string(text);
  while (bytes_max > 0 && (static_cast<unsigned char>(text[bytes_max]) & 0xC0) == 0x80) --bytes_max;
  return std::string(text.substr(0, bytes_max)) + "...";
}

// The template's own words as they are, what a client sent cut short.
Result<Value> RaiseException(Interpreter& run, const Value&, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"message"}, 1));
  TRY(const TextPtr message, ToText(*bound.Get(0), run.budget()));
  constexpr size_t kBytesMax = 512, kUntrustedBytesMax = 80;
  const std::string_view bytes = message->bytes;
  std::string text;
  size_t begin = 0;
  for (const ByteRange& range : message->trusted) {
    text += Shortened(bytes.substr(begin, range.begin - begin), kUntrustedBytesMax);
    text += bytes.substr(range.begin, range.end - range.begin);
    begin = range.end;
  }
  text += Shortened(bytes.substr(begin), kUntrustedBytesMax);
  return run.Raise(Shortened(text, kBytesMax));
}

// datetime.now().strftime(format): local time without a zone.
Result<Value> StrftimeNow(Interpreter& run, const Value&, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"format"}, 1));
  TRY(const TracedText* format, bound.GetText(0));
  if (!format || format->bytes.size() > 256 || format->bytes.find('\0') != std::string::npos)
    return Error(Code::kInvalidArgument, "strftime_now takes a format of at most 256 bytes");
  const std::time_t now = static_cast<std::time_t>(run.now_unix_s());
  std::tm parts{};
  if (!localtime_r(&now, &parts)) return Error(Code::kInvalidArgument, "the time can not be shown");
  std::string text;
  for (size_t i = 0; i < format->bytes.size(); ++i) {
    if (format->bytes[i] != '%' || i + 1 == format->bytes.size()) {
      text += format->bytes[i];
      continue;
    }
    std::string one = format->bytes.substr(i++, 2);
    if ((format->bytes[i] == '-' || format->bytes[i] == '_' || format->bytes[i] == 'E' ||
         format->bytes[i] == 'O') &&
        i + 1 < format->bytes.size())
      one += format->bytes[++i];
    if (one == "%z" || one == "%Z") continue;  // no zone
    if (one == "%f") {
      text += "000000";
      continue;
    }
    char buffer[128];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    text.append(buffer, std::strftime(buffer, sizeof buffer, one.c_str(), &parts));
#pragma GCC diagnostic pop
  }
  return Value::Trusted(text);
}

Status Count(const Arguments& args, size_t least, size_t most) {
  const size_t count = args.positional.size();
  if (args.named.empty() && count >= least && count <= most) return {};
  return Error(Code::kInvalidArgument, "the method takes {} to {} values", least, most);
}

template <ListKind kind>
Result<Value> DictView(Interpreter& run, const Value& self, const Arguments& args) {
  RETURN_IF_ERROR(Count(args, 0, 0));
  std::vector<Value> items;
  RETURN_IF_ERROR(run.budget().Work(self.AsDict()->size() * sizeof(Value)));
  for (const auto& [key, value] : self.AsDict()->entries()) {
    if (kind == ListKind::kItems) {
      TRY(Value pair, MakeList({key, value}, run.budget(), ListKind::kTuple));
      items.push_back(std::move(pair));
    } else {
      items.push_back(kind == ListKind::kKeys ? key : value);
    }
  }
  return MakeList(std::move(items), run.budget(), kind);
}

Result<Value> DictGet(Interpreter& run, const Value& self, const Arguments& args) {
  RETURN_IF_ERROR(Count(args, 1, 2));
  const Value& key = args.positional[0];
  if (!key.IsHashable())
    return Error(Code::kInvalidArgument, "a {} can not be a key", key.TypeName());
  if (const TracedText* text = key.AsText()) RETURN_IF_ERROR(run.budget().Work(text->bytes.size()));
  if (const Value* value = self.AsDict()->Find(key)) return *value;
  return args.positional.size() == 2 ? args.positional[1] : Value(NoneValue{});
}

Result<Value> Copy(Interpreter&, const Value& self, const Arguments& args) {
  RETURN_IF_ERROR(Count(args, 0, 0));
  return self;  // nothing can change it
}

Result<Value> ListCount(Interpreter& run, const Value& self, const Arguments& args) {
  RETURN_IF_ERROR(Count(args, 1, 1));
  Int count = 0;
  for (const Value& item : self.AsList()->items) {
    TRY(const bool equal, Equal(item, args.positional[0], run.budget()));
    count += equal ? 1 : 0;
  }
  return Value(count);
}

Result<Value> ListIndex(Interpreter& run, const Value& self, const Arguments& args) {
  RETURN_IF_ERROR(Count(args, 1, 1));
  Int index = 0;
  for (const Value& item : self.AsList()->items) {
    TRY(const bool equal, Equal(item, args.positional[0], run.budget()));
    if (equal) return Value(index);
    ++index;
  }
  return Error(Code::kInvalidArgument, "the value is not in the list");
}

constexpr Method kGlobals[] = {{"range", Range},
                               {"namespace", MakeNamespace},
                               {"dict", DictFunction},
                               {"raise_exception", RaiseException},
                               {"strftime_now", StrftimeNow}};

constexpr Method kDictMethods[] = {{"items", DictView<ListKind::kItems>},
                                   {"keys", DictView<ListKind::kKeys>},
                                   {"values", DictView<ListKind::kValues>},
                                   {"get", DictGet},
                                   {"copy", Copy},
                                   {"fromkeys", nullptr}};

constexpr Method kListMethods[] = {{"count", ListCount}, {"index", ListIndex}, {"copy", Copy}};

template <class Row>
const Row* FindRow(std::span<const Row> rows, std::string_view name) {
  const auto row =
      std::find_if(rows.begin(), rows.end(), [name](const Row& r) { return r.name == name; });
  return row == rows.end() ? nullptr : &*row;
}

}  // namespace

const Filter* FindFilter(std::string_view name) {
  for (const auto rows : {TextFilters(), SequenceFilters(), NumberFilters()})
    if (const Filter* filter = FindRow(rows, name)) return filter;
  return nullptr;
}

const Method* FindGlobal(std::string_view name) {
  return FindRow(std::span<const Method>(kGlobals), name);
}

const Method* FindMethod(const Value& object, std::string_view name) {
  if (object.AsText()) return FindRow(TextMethods(), name);
  if (object.AsDict()) return FindRow(std::span<const Method>(kDictMethods), name);
  const List* list = object.AsList();
  if (!list || list->kind > ListKind::kRange) return nullptr;
  if (name == "copy" && list->kind != ListKind::kList) return nullptr;
  return FindRow(std::span<const Method>(kListMethods), name);
}

}  // namespace sluice::jinja
