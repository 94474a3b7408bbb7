// Filters on lists and dictionaries. Source: jinja2/filters.py, version 3.1. Where jinja2 gives a
// generator, so do we: it can be looped over once and has no length.
#include <algorithm>
#include <unordered_set>

#include "text/template/builtins.h"
#include "text/template/interpreter.h"
#include "text/template/operators.h"
#include "text/template/python_text.h"
#include "text/template/unicode.h"

namespace sluice::jinja {

Result<AttributePath> AttributePath::Parse(const Value* attribute) {
  AttributePath path;
  if (!attribute || attribute->IsNone()) return path;
  const TracedText* text = attribute->AsText();
  if (!text) {
    path.parts_.push_back(*attribute);
    return path;
  }
  for (size_t begin = 0; begin <= text->bytes.size();) {
    const size_t end = std::min(text->bytes.find('.', begin), text->bytes.size());
    const std::string part = text->bytes.substr(begin, end - begin);
    const bool number =
        !part.empty() && part.size() < 18 &&
        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    path.parts_.push_back(number ? Value(Int{std::stoll(part)}) : Value::Trusted(part));
    if (path.parts_.size() > 16)
      return Error(Code::kInvalidArgument, "an attribute path of more than 16 parts");
    begin = end + 1;
  }
  return path;
}

Result<Value> AttributePath::Get(Interpreter& run, const Value& item,
                                 const Value* otherwise) const {
  Value value = item;
  for (const Value& part : parts_) {
    RETURN_IF_ERROR(run.budget().Ticks(1));
    TRY(value, run.GetItem(value, part));
    if (otherwise && value.IsUndefined()) value = *otherwise;
  }
  return value;
}

namespace {

// Strings compare without case unless asked.
Result<Value> SortKey(const Value& value, bool case_sensitive, Budget& budget) {
  const TracedText* text = value.AsText();
  if (case_sensitive || !text) return value;
  return ChangeCase(*text, Case::kLower, budget);
}

Result<Value> Generator(std::vector<Value> items, Interpreter& run) {
  return MakeList(std::move(items), run.budget(), ListKind::kGenerator);
}

Status NoArguments(const Arguments& args) { return BoundArguments::Bind(args, {}).status(); }

Result<Value> Length(Interpreter& run, const Value& input, const Arguments& args) {
  RETURN_IF_ERROR(NoArguments(args));
  if (const TracedText* text = input.AsText()) {
    RETURN_IF_ERROR(run.budget().Work(text->bytes.size()));
    return Value(static_cast<Int>(CountCodePoints(text->bytes)));
  }
  if (const List* list = input.AsList(); list && list->kind != ListKind::kGenerator)
    return Value(static_cast<Int>(list->items.size()));
  if (const Dict* dict = input.AsDict()) return Value(static_cast<Int>(dict->size()));
  if (const Loop* loop = input.AsLoop()) return Value(static_cast<Int>(loop->items->items.size()));
  if (input.IsUndefined()) return Value(Int{0});
  return Error(Code::kInvalidArgument, "a {} has no length", input.TypeName());
}

Result<Value> First(Interpreter& run, const Value& input, const Arguments& args) {
  RETURN_IF_ERROR(NoArguments(args));
  if (const List* list = input.AsList(); list && list->kind == ListKind::kGenerator)
    return list->consumed < list->items.size()
               ? list->items[list->consumed++]
               : Value::Undefined("No first item, sequence was empty.");
  if (const TracedText* text = input.AsText(); text && !text->bytes.empty())
    return Substring(*text, 0, DecodeAt(text->bytes, 0).bytes, run.budget());
  TRY(const ListPtr items, Iterate(input, run.budget()));
  if (items->items.empty()) return Value::Undefined("No first item, sequence was empty.");
  return items->items.front();
}

Result<Value> Last(Interpreter& run, const Value& input, const Arguments& args) {
  RETURN_IF_ERROR(NoArguments(args));
  if (const List* list = input.AsList(); list && list->kind == ListKind::kGenerator)
    return Error(Code::kInvalidArgument, "a generator has no last item (use |list)");
  TRY(const ListPtr items, Iterate(input, run.budget()));
  if (items->items.empty()) return Value::Undefined("No last item, sequence was empty.");
  return items->items.back();
}

Result<Value> ToList(Interpreter& run, const Value& input, const Arguments& args) {
  RETURN_IF_ERROR(NoArguments(args));
  TRY(const ListPtr items, Iterate(input, run.budget()));
  return MakeList(items->items, run.budget());
}

Result<Value> Reverse(Interpreter& run, const Value& input, const Arguments& args) {
  RETURN_IF_ERROR(NoArguments(args));
  const Value none{NoneValue{}};
  if (input.AsText()) return Slice(input, none, none, Value(Int{-1}), run.budget());
  const List* list = input.AsList();
  const bool was_generator = list && list->kind == ListKind::kGenerator;
  TRY(const ListPtr items, Iterate(input, run.budget()));
  RETURN_IF_ERROR(run.budget().Work(items->items.size() * sizeof(Value)));
  std::vector<Value> reversed(items->items.rbegin(), items->items.rend());
  if (input.IsUndefined() || was_generator) return MakeList(std::move(reversed), run.budget());
  return Generator(std::move(reversed), run);
}

// An item and what it is sorted by.
using Keyed = std::pair<Value, Value>;

Result<Value> SortedBy(std::vector<Keyed> keyed, bool reverse, Interpreter& run) {
  RETURN_IF_ERROR(StableSort(
      keyed, [](const Keyed& k) -> const Value& { return k.first; }, reverse, run.budget()));
  std::vector<Value> items;
  items.reserve(keyed.size());
  for (Keyed& k : keyed) items.push_back(std::move(k.second));
  return MakeList(std::move(items), run.budget());
}

Result<std::vector<AttributePath>> ParsePaths(const Value* attribute) {
  std::vector<AttributePath> paths;
  const TracedText* text = attribute ? attribute->AsText() : nullptr;
  if (!text) {
    TRY(AttributePath path, AttributePath::Parse(attribute));
    paths.push_back(std::move(path));
    return paths;
  }
  for (size_t begin = 0; begin <= text->bytes.size();) {
    const size_t end = std::min(text->bytes.find(',', begin), text->bytes.size());
    const Value part = Value::Trusted(text->bytes.substr(begin, end - begin));
    TRY(AttributePath path, AttributePath::Parse(&part));
    paths.push_back(std::move(path));
    if (paths.size() > 16) return Error(Code::kInvalidArgument, "more than 16 attributes");
    begin = end + 1;
  }
  return paths;
}

Result<Value> Sort(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound,
      BoundArguments::Bind(args, {"reverse", "case_sensitive", "attribute"}));
  TRY(const std::vector<AttributePath> paths, ParsePaths(bound.GetUnlessNone(2)));
  TRY(const ListPtr items, Iterate(input, run.budget()));
  std::vector<Keyed> keyed;
  for (const Value& item : items->items) {
    std::vector<Value> key;
    for (const AttributePath& path : paths) {
      TRY(const Value part, path.Get(run, item, nullptr));
      TRY(Value sort_key, SortKey(part, bound.Truth(1, false), run.budget()));
      key.push_back(std::move(sort_key));
    }
    TRY(Value list, MakeList(std::move(key), run.budget()));
    keyed.emplace_back(std::move(list), item);
  }
  return SortedBy(std::move(keyed), bound.Truth(0, false), run);
}

Result<Value> DictSort(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"case_sensitive", "by", "reverse"}));
  TRY(const TracedText* by, bound.GetText(1));
  if (by && by->bytes != "key" && by->bytes != "value")
    return Error(Code::kInvalidArgument, "sorts by key or value only");
  const bool by_value = by && by->bytes == "value";
  const Dict* dict = input.AsDict();
  if (!dict) return Error(Code::kInvalidArgument, "takes a dict, not a {}", input.TypeName());
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : dict->entries()) {
    TRY(Value sort_key, SortKey(by_value ? value : key, bound.Truth(0, false), run.budget()));
    TRY(Value pair, MakeList({key, value}, run.budget(), ListKind::kTuple));
    keyed.emplace_back(std::move(sort_key), std::move(pair));
  }
  return SortedBy(std::move(keyed), bound.Truth(2, false), run);
}

Result<Value> Items(Interpreter& run, const Value& input, const Arguments& args) {
  RETURN_IF_ERROR(NoArguments(args));
  if (input.IsUndefined()) return Generator({}, run);
  const Dict* dict = input.AsDict();
  if (!dict) return Error(Code::kInvalidArgument, "takes a dict, not a {}", input.TypeName());
  std::vector<Value> items;
  for (const auto& [key, value] : dict->entries()) {
    TRY(Value pair, MakeList({key, value}, run.budget(), ListKind::kTuple));
    items.push_back(std::move(pair));
  }
  return Generator(std::move(items), run);
}

Result<Value> Unique(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"case_sensitive", "attribute"}));
  TRY(const AttributePath path, AttributePath::Parse(bound.GetUnlessNone(1)));
  TRY(const ListPtr items, Iterate(input, run.budget()));
  std::unordered_set<std::string> seen;
  std::vector<Value> kept;
  for (const Value& item : items->items) {
    TRY(const Value part, path.Get(run, item, nullptr));
    TRY(const Value key, SortKey(part, bound.Truth(0, false), run.budget()));
    std::string form;
    if (!Dict::KeyForm(key, form))
      return Error(Code::kInvalidArgument, "a {} can not be told apart", key.TypeName());
    RETURN_IF_ERROR(run.budget().Work(form.size() + 64));
    if (seen.insert(std::move(form)).second) kept.push_back(item);
  }
  return Generator(std::move(kept), run);
}

template <int sign>
Result<Value> Extreme(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"case_sensitive", "attribute"}));
  TRY(const AttributePath path, AttributePath::Parse(bound.GetUnlessNone(1)));
  TRY(const ListPtr items, Iterate(input, run.budget()));
  if (items->items.empty()) return Value::Undefined("No aggregated item, sequence was empty.");
  Value best, best_key;
  for (size_t i = 0; i < items->items.size(); ++i) {
    TRY(const Value part, path.Get(run, items->items[i], nullptr));
    TRY(const Value key, SortKey(part, bound.Truth(0, false), run.budget()));
    if (i) {
      TRY(const int order, Order(key, best_key, run.budget()));
      if (order != sign) continue;
    }
    best = items->items[i];
    best_key = key;
  }
  return best;
}

Result<Value> Sum(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"attribute", "start"}));
  TRY(const AttributePath path, AttributePath::Parse(bound.GetUnlessNone(0)));
  TRY(const ListPtr items, Iterate(input, run.budget()));
  Value sum = bound.Get(1) ? *bound.Get(1) : Value(Int{0});
  if (sum.AsText()) return Error(Code::kInvalidArgument, "texts are joined, not summed");
  for (const Value& item : items->items) {
    RETURN_IF_ERROR(run.budget().Ticks(1));
    TRY(const Value part, path.Get(run, item, nullptr));
    TRY(sum, Arithmetic(BinaryOp::kAdd, sum, part, run.budget()));
  }
  return sum;
}

Result<Value> Default(Interpreter&, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"default_value", "boolean"}));
  const bool replace = input.IsUndefined() || (bound.Truth(1, false) && !input.Truth());
  if (!replace) return input;
  return bound.Get(0) ? *bound.Get(0) : Value::Trusted("");
}

Result<Value> Attribute(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"name"}, 1));
  TRY(const TracedText* name, bound.GetText(0));
  if (!name) return Error(Code::kInvalidArgument, "the name must be a str");
  if (input.AsDict() && !FindMethod(input, name->bytes))
    return Value::Undefined("a dict has keys, not attributes");
  return run.GetAttribute(input, name->bytes);
}

// A filter within a filter: a level of evaluation.
Result<Value> Apply(Interpreter& run, const Filter& filter, const Value& item,
                    const Arguments& args) {
  const Frame frame(run.budget());
  RETURN_IF_ERROR(frame.status());
  RETURN_IF_ERROR(run.budget().Step());
  return filter.run(run, item, args);
}

Result<Value> MapAttribute(Interpreter& run, const List& items, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"attribute", "default"}));
  TRY(const AttributePath path, AttributePath::Parse(bound.GetUnlessNone(0)));
  std::vector<Value> mapped;
  for (const Value& item : items.items) {
    TRY(Value value, path.Get(run, item, bound.GetUnlessNone(1)));
    mapped.push_back(std::move(value));
  }
  return Generator(std::move(mapped), run);
}

Result<Value> Map(Interpreter& run, const Value& input, const Arguments& args) {
  if (!input.Truth()) return Generator({}, run);  // even of what can not be iterated
  TRY(const ListPtr items, Iterate(input, run.budget()));
  const bool by_attribute =
      args.positional.empty() && std::any_of(args.named.begin(), args.named.end(),
                                             [](const auto& a) { return a.first == "attribute"; });
  if (by_attribute) return MapAttribute(run, *items, args);
  if (args.positional.empty()) return Error(Code::kInvalidArgument, "needs the name of a filter");
  const TracedText* name = args.positional[0].AsText();
  const Filter* filter = name ? FindFilter(name->bytes) : nullptr;
  if (!filter)
    return Error(Code::kInvalidArgument, "there is no filter {}",
                 name ? Quoted(name->bytes) : "of that type");
  RETURN_IF_ERROR(run.budget().Work(args.positional.size() * sizeof(Value)));
  const Arguments rest{{args.positional.begin() + 1, args.positional.end()}, args.named};
  std::vector<Value> mapped;
  for (const Value& item : items->items) {
    TRY(Value value, Apply(run, *filter, item, rest));
    mapped.push_back(std::move(value));
  }
  return Generator(std::move(mapped), run);
}

// select, reject, selectattr and rejectattr.
template <bool keep, bool by_attribute>
Result<Value> Select(Interpreter& run, const Value& input, const Arguments& args) {
  if (!input.Truth()) return Generator({}, run);  // even of what can not be iterated
  TRY(const ListPtr items, Iterate(input, run.budget()));
  size_t taken = 0;
  AttributePath path;
  if (by_attribute) {
    if (args.positional.empty())
      return Error(Code::kInvalidArgument, "needs the name of an attribute");
    TRY(path, AttributePath::Parse(&args.positional[taken++]));
  }
  const Test* test = nullptr;
  if (taken < args.positional.size()) {
    const TracedText* name = args.positional[taken++].AsText();
    test = name ? FindTest(name->bytes) : nullptr;
    if (!test)
      return Error(Code::kInvalidArgument, "there is no test {}",
                   name ? Quoted(name->bytes) : "of that type");
  }
  RETURN_IF_ERROR(run.budget().Work(args.positional.size() * sizeof(Value)));
  const Arguments rest{
      {args.positional.begin() + static_cast<ptrdiff_t>(taken), args.positional.end()}, args.named};
  std::vector<Value> kept;
  for (const Value& item : items->items) {
    RETURN_IF_ERROR(run.budget().Step());
    TRY(const Value value, path.Get(run, item, nullptr));
    bool holds = value.Truth();
    if (test) {
      TRY(holds, test->run(run, value, rest));
    }
    if (holds == keep) kept.push_back(item);
  }
  return Generator(std::move(kept), run);
}

Result<Value> Batch(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"linecount", "fill_with"}, 1));
  TRY(const Int count, bound.GetInt(0, 1));
  TRY(const ListPtr items, Iterate(input, run.budget()));
  std::vector<Value> batches, batch;
  const auto flush = [&]() -> Status {
    TRY(Value list, MakeList(std::exchange(batch, {}), run.budget()));
    batches.push_back(std::move(list));
    return {};
  };
  for (const Value& item : items->items) {
    // jinja2 compares lengths for equality: a count below 1 starts a batch at once or never.
    if (static_cast<Int>(batch.size()) == count) RETURN_IF_ERROR(flush());
    batch.push_back(item);
  }
  if (!batch.empty()) {
    if (const Value* fill = bound.GetUnlessNone(1)) {
      if (count > 100000) return Error(Code::kInvalidArgument, "a batch of more than 100000 items");
      while (static_cast<Int>(batch.size()) < count) batch.push_back(*fill);
    }
    RETURN_IF_ERROR(flush());
  }
  return Generator(std::move(batches), run);
}

Result<Value> SliceFilter(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"slices", "fill_with"}, 1));
  TRY(const Int slices, bound.GetInt(0, 1));
  TRY(const ListPtr items, Iterate(input, run.budget()));
  if (slices == 0) return Error(Code::kInvalidArgument, "division by zero");
  if (slices > 100000) return Error(Code::kInvalidArgument, "more than 100000 slices");
  const Int size = static_cast<Int>(items->items.size());
  std::vector<Value> out;
  const Int per_slice = slices > 0 ? size / slices : 0, longer = slices > 0 ? size % slices : 0;
  Int begin = 0;
  for (Int i = 0; i < slices; ++i) {
    const Int end = begin + per_slice + (i < longer ? 1 : 0);
    std::vector<Value> slice(items->items.begin() + static_cast<ptrdiff_t>(begin),
                             items->items.begin() + static_cast<ptrdiff_t>(end));
    if (const Value* fill = bound.GetUnlessNone(1); fill && i >= longer) slice.push_back(*fill);
    TRY(Value list, MakeList(std::move(slice), run.budget()));
    out.push_back(std::move(list));
    begin = end;
  }
  return Generator(std::move(out), run);
}

Result<Value> GroupBy(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound,
      BoundArguments::Bind(args, {"attribute", "default", "case_sensitive"}, 1));
  TRY(const AttributePath path, AttributePath::Parse(bound.Get(0)));
  TRY(const ListPtr items, Iterate(input, run.budget()));
  const bool case_sensitive = bound.Truth(2, false);
  std::vector<Keyed> keyed;
  for (const Value& item : items->items) {
    TRY(const Value part, path.Get(run, item, bound.GetUnlessNone(1)));
    TRY(Value key, SortKey(part, case_sensitive, run.budget()));
    keyed.emplace_back(std::move(key), item);
  }
  RETURN_IF_ERROR(StableSort(
      keyed, [](const Keyed& k) -> const Value& { return k.first; }, false, run.budget()));
  std::vector<Value> groups;
  for (size_t begin = 0, end; begin < keyed.size(); begin = end) {
    std::vector<Value> members;
    for (end = begin; end < keyed.size(); ++end) {
      TRY(const bool same, Equal(keyed[begin].first, keyed[end].first, run.budget()));
      if (!same) break;
      members.push_back(keyed[end].second);
    }
    if (end == begin) ++end;  // a NaN is not even equal to itself
    TRY(Value grouper, path.Get(run, keyed[begin].second, bound.GetUnlessNone(1)));
    TRY(Value list, MakeList(std::move(members), run.budget()));
    TRY(Value group,
        MakeList({std::move(grouper), std::move(list)}, run.budget(), ListKind::kTuple));
    groups.push_back(std::move(group));
  }
  return MakeList(std::move(groups), run.budget());
}

}  // namespace

std::span<const Filter> SequenceFilters() {
  static constexpr Filter kFilters[] = {
      // clang-format off
      {"attr", Attribute},                    {"batch", Batch},
      {"count", Length},                      {"d", Default},
      {"default", Default},                   {"dictsort", DictSort},
      {"first", First},                       {"groupby", GroupBy},
      {"items", Items},                       {"last", Last},
      {"length", Length},                     {"list", ToList},
      {"map", Map},                           {"max", Extreme<1>},
      {"min", Extreme<-1>},                   {"reject", Select<false, false>},
      {"rejectattr", Select<false, true>},    {"reverse", Reverse},
      {"select", Select<true, false>},        {"selectattr", Select<true, true>},
      {"slice", SliceFilter},                 {"sort", Sort},
      {"sum", Sum},                           {"unique", Unique},
      // clang-format on
  };
  return kFilters;
}

}  // namespace sluice::jinja
