// Filters that make text. Source: jinja2/filters.py, version 3.1; tojson is json.dumps, as
// transformers sets it up.
#include <algorithm>
#include <cstdio>

#include "text/template/builtins.h"
#include "text/template/interpreter.h"
#include "text/template/operators.h"
#include "text/template/python_text.h"
#include "text/template/unicode.h"

namespace sluice::jinja {
namespace {

template <Case to>
Result<Value> ToCase(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {}));
  (void)bound;
  TRY(const TextPtr text, ToText(input, run.budget()));
  return ChangeCase(*text, to, run.budget());
}

Result<Value> Trim(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"chars"}));
  TRY(const TextPtr text, ToText(input, run.budget()));
  return StripText(*text, bound.Get(0), true, true, run.budget());
}

Result<Value> Replace(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"old", "new", "count"}, 2));
  TRY(const TextPtr text, ToText(input, run.budget()));
  TRY(const TextPtr from, ToText(*bound.Get(0), run.budget()));
  TRY(const TextPtr to, ToText(*bound.Get(1), run.budget()));
  Int count = -1;
  if (bound.GetUnlessNone(2)) {
    TRY(count, bound.GetInt(2, -1));
  }
  return ReplaceText(*text, *from, *to, count, run.budget());
}

Result<Value> String(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {}));
  (void)bound;
  TRY(TextPtr text, ToText(input, run.budget()));
  return Value(std::move(text));
}

// HTML entities. Without autoescape the result is a plain text like any other.
Result<Value> Escape(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {}));
  (void)bound;
  TRY(const TextPtr text, ToText(input, run.budget()));
  static constexpr std::string_view kMarks = "&<>'\"";
  static constexpr std::string_view kEntities[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
  TextBuilder out(run.budget());
  TrustCursor trust(*text);
  size_t pos = 0;
  while (pos < text->bytes.size() && !out.full()) {
    const size_t mark = std::min(text->bytes.find_first_of(kMarks, pos), text->bytes.size());
    out.Append(*text, pos, mark);
    if (mark < text->bytes.size())
      out.Append(kEntities[kMarks.find(text->bytes[mark])], trust.At(mark));
    pos = mark + 1;
  }
  TRY(TextPtr escaped, out.Finish());
  return Value(std::move(escaped));
}

Result<Value> Json(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound,
      BoundArguments::Bind(args, {"ensure_ascii", "indent", "separators", "sort_keys"}));
  JsonStyle style;
  style.ensure_ascii = bound.Truth(0, false);
  style.sort_keys = bound.Truth(3, false);
  if (const Value* indent = bound.GetUnlessNone(1)) {
    if (const TracedText* text = indent->AsText()) {
      style.indent = text->bytes;
    } else {
      TRY(const Int spaces, bound.GetInt(1, 0));
      if (spaces > 64) return Error(Code::kInvalidArgument, "an indent of more than 64 spaces");
      style.indent = std::string(static_cast<size_t>(std::max<Int>(spaces, 0)), ' ');
    }
    if (style.indent->size() > 64)
      return Error(Code::kInvalidArgument, "an indent of more than 64 bytes");
    style.item_separator.assign(1, ',');
  }
  if (const Value* separators = bound.GetUnlessNone(2)) {
    const List* pair = separators->AsList();
    const bool right =
        pair && pair->items.size() == 2 && pair->items[0].AsText() && pair->items[1].AsText();
    if (!right) return Error(Code::kInvalidArgument, "separators must be two texts");
    style.item_separator = pair->items[0].AsText()->bytes;
    style.key_separator = pair->items[1].AsText()->bytes;
  }
  TRY(TextPtr text, ToJson(input, style, run.budget()));
  return Value(std::move(text));
}

Result<Value> Indent(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"width", "first", "blank"}));
  const TracedText* text = input.AsText();
  if (!text) return Error(Code::kInvalidArgument, "takes a str, not a {}", input.TypeName());
  TracedText indent = TracedText::Trusted("    ");
  if (const Value* width = bound.Get(0)) {
    if (const TracedText* given = width->AsText()) {
      indent = *given;
    } else {
      TRY(const Int spaces, bound.GetInt(0, 4));
      if (spaces > 4096) return Error(Code::kInvalidArgument, "an indent of more than 4096 spaces");
      indent = TracedText::Trusted(std::string(static_cast<size_t>(std::max<Int>(spaces, 0)), ' '));
    }
  }
  // A newline at the end gives the last line its end, as in jinja2.
  TextBuilder with_end(run.budget());
  with_end.Append(*text);
  with_end.Append("\n", true);
  TRY(const TextPtr ended, with_end.Finish());
  TRY(const Value lines, SplitLines(*ended, false, run.budget()));
  const bool blank = bound.Truth(2, false);
  TextBuilder out(run.budget());
  if (bound.Truth(1, false)) out.Append(indent);
  bool first = true;
  for (const Value& line : lines.AsList()->items) {
    if (!first) out.Append("\n", true);
    if (!first && (blank || !line.AsText()->bytes.empty())) out.Append(indent);
    out.Append(*line.AsText());
    first = false;
  }
  TRY(TextPtr result, out.Finish());
  return Value(std::move(result));
}

Result<Value> Center(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"width"}));
  TRY(const Int width, bound.GetInt(0, 80));
  TRY(const TextPtr text, ToText(input, run.budget()));
  return Justify(*text, width, TracedText::Trusted(" "), Side::kBoth, run.budget());
}

Result<Value> WordCount(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {}));
  (void)bound;
  TRY(const TextPtr text, ToText(input, run.budget()));
  RETURN_IF_ERROR(run.budget().Work(text->bytes.size()));
  Int count = 0;
  bool inside = false;
  for (size_t pos = 0; pos < text->bytes.size();) {
    const CodePoint c = DecodeAt(text->bytes, pos);
    const bool word = c.value == '_' || IsAlpha(c.value) || IsNumeric(c.value) || IsDigit(c.value);
    if (word && !inside) ++count;
    inside = word;
    pos += c.bytes;
  }
  return Value(count);
}

Result<Value> Truncate(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound,
      BoundArguments::Bind(args, {"length", "killwords", "end", "leeway"}));
  TRY(const Int length, bound.GetInt(0, 255));
  TRY(const TracedText* given_end, bound.GetText(2));
  const TracedText dots = TracedText::Trusted("...");
  const TracedText& end = given_end ? *given_end : dots;
  TRY(const Int leeway, bound.GetInt(3, 5));
  const Int end_length = static_cast<Int>(CountCodePoints(end.bytes));
  if (length < end_length || leeway < 0)
    return Error(Code::kInvalidArgument, "a length below that of its end, or a negative leeway");
  TRY(const Value size, FindFilter("length")->run(run, input, {}));
  if (std::get<Int>(size.data) - leeway <= length) return input;  // lists are allowed to be short
  const TracedText* text = input.AsText();
  if (!text) return Error(Code::kInvalidArgument, "takes a str, not a {}", input.TypeName());
  size_t cut = CodePointRange(text->bytes, 0, static_cast<size_t>(length - end_length)).end;
  if (!bound.Truth(1, false)) {
    const size_t space = std::string_view(text->bytes).substr(0, cut).rfind(' ');
    if (space != std::string_view::npos) cut = space;
  }
  TextBuilder out(run.budget());
  out.Append(*text, 0, cut);
  out.Append(end);
  TRY(TextPtr result, out.Finish());
  return Value(std::move(result));
}

Result<Value> Format(Interpreter& run, const Value& input, const Arguments& args) {
  if (!args.named.empty())
    return Error(Code::kInvalidArgument, "named arguments are not supported");
  TRY(const TextPtr text, ToText(input, run.budget()));
  TRY(const Value tuple, MakeList(args.positional, run.budget(), ListKind::kTuple));
  return FormatPercent(*text, tuple, run.budget());
}

Result<Value> Join(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"d", "attribute"}));
  TRY(const ListPtr items, Iterate(input, run.budget()));
  TextPtr between = std::make_shared<TracedText>();
  if (bound.Get(0)) {
    TRY(between, ToText(*bound.Get(0), run.budget()));
  }
  TRY(const AttributePath path, AttributePath::Parse(bound.GetUnlessNone(1)));
  TextBuilder out(run.budget());
  for (size_t i = 0; i < items->items.size() && !out.full(); ++i) {
    RETURN_IF_ERROR(run.budget().Ticks(1));
    if (i) out.Append(*between);
    TRY(const Value item, path.Get(run, items->items[i], nullptr));
    RETURN_IF_ERROR(AppendText(item, out, run.budget()));
  }
  TRY(TextPtr joined, out.Finish());
  return Value(std::move(joined));
}

Result<Value> UrlEncode(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {}));
  (void)bound;
  if (input.AsDict() || input.AsList())
    return Error(Code::kInvalidArgument, "takes a str; a {} is not supported", input.TypeName());
  TRY(const TextPtr text, ToText(input, run.budget()));
  TextBuilder out(run.budget());
  TrustCursor trust(*text);
  for (size_t i = 0; i < text->bytes.size() && !out.full(); ++i) {
    const auto c = static_cast<unsigned char>(text->bytes[i]);
    const bool plain =
        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
        std::string_view("_.-~/").find(static_cast<char>(c)) != std::string_view::npos;
    char code[4];
    std::snprintf(code, sizeof code, "%%%02X", c);
    out.Append(plain ? std::string_view(text->bytes).substr(i, 1) : std::string_view(code, 3),
               trust.At(i));
  }
  TRY(TextPtr encoded, out.Finish());
  return Value(std::move(encoded));
}

}  // namespace

std::span<const Filter> TextFilters() {
  static constexpr Filter kFilters[] = {
      // clang-format off
      {"capitalize", ToCase<Case::kCapitalize>},  {"center", Center},
      {"e", Escape},                              {"escape", Escape},
      {"format", Format},                         {"indent", Indent},
      {"join", Join},                             {"lower", ToCase<Case::kLower>},
      {"replace", Replace},                       {"safe", String},
      {"string", String},                         {"title", ToCase<Case::kJinjaTitle>},
      {"tojson", Json},                           {"trim", Trim},
      {"truncate", Truncate},                     {"upper", ToCase<Case::kUpper>},
      {"urlencode", UrlEncode},                   {"wordcount", WordCount},
      // clang-format on
  };
  return kFilters;
}

}  // namespace sluice::jinja
