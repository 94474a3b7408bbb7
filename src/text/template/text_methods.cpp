// Methods of str. Source: the Python 3 library reference, "String Methods".
#include <algorithm>

#include "text/template/builtins.h"
#include "text/template/interpreter.h"
#include "text/template/operators.h"
#include "text/template/python_text.h"
#include "text/template/unicode.h"

namespace sluice::jinja {
namespace {

Status Count(const Arguments& args, size_t least, size_t most) {
  const size_t count = args.positional.size();
  if (!args.named.empty())
    return Error(Code::kInvalidArgument, "the method has no argument {}",
                 Quoted(args.named[0].first));
  if (count >= least && count <= most) return {};
  return Error(Code::kInvalidArgument, "the method takes {} to {} arguments, not {}", least, most,
               count);
}

Result<const TracedText*> TextAt(const Arguments& args, size_t i) {
  const TracedText* text = args.positional[i].AsText();
  if (!text)
    return Error(Code::kInvalidArgument, "the method takes a str, not a {}",
                 args.positional[i].TypeName());
  return text;
}

template <Case to>
Result<Value> ToCase(Interpreter& run, const Value& self, const Arguments& args) {
  RETURN_IF_ERROR(Count(args, 0, 0));
  return ChangeCase(*self.AsText(), to, run.budget());
}

template <bool left, bool right>
Result<Value> Strip(Interpreter& run, const Value& self, const Arguments& args) {
  RETURN_IF_ERROR(Count(args, 0, 1));
  const Value* chars = args.positional.empty() ? nullptr : &args.positional[0];
  return StripText(*self.AsText(), chars, left, right, run.budget());
}

// Where a text falls apart; ranges in order.
std::vector<ByteRange> SplitSpace(std::string_view text, Int splits, bool from_right) {
  std::vector<ByteRange> parts;
  if (!from_right) {
    size_t pos = LeadingSpace(text);
    while (pos < text.size()) {
      size_t end = pos;
      if (splits == 0) {
        end = text.size();  // the rest as it is
      } else {
        while (end < text.size() && !IsSpace(DecodeAt(text, end).value))
          end += DecodeAt(text, end).bytes;
      }
      parts.push_back({pos, end});
      pos = splits-- == 0 ? text.size() : end + LeadingSpace(text.substr(end));
    }
    return parts;
  }
  size_t end = EndWithoutSpace(text);
  while (end > 0) {
    size_t begin = end;
    if (splits == 0) {
      begin = 0;
    } else {
      while (begin > 0) {
        size_t last = begin - 1;
        while (last > 0 && (static_cast<unsigned char>(text[last]) & 0xC0) == 0x80) --last;
        if (IsSpace(DecodeAt(text, last).value)) break;
        begin = last;
      }
    }
    parts.push_back({begin, end});
    end = splits-- == 0 ? 0 : EndWithoutSpace(text.substr(0, begin));
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<ByteRange> SplitAt(std::string_view text, std::string_view separator, Int splits,
                               bool from_right) {
  std::vector<ByteRange> parts;
  if (!from_right) {
    size_t begin = 0;
    for (; splits != 0; --splits) {
      const size_t found = FindBytes(text, separator, begin);
      if (found == std::string_view::npos) break;
      parts.push_back({begin, found});
      begin = found + separator.size();
    }
    parts.push_back({begin, text.size()});
    return parts;
  }
  size_t end = text.size();
  for (; splits != 0; --splits) {
    const size_t found =
        end < separator.size() ? std::string_view::npos : text.substr(0, end).rfind(separator);
    if (found == std::string_view::npos) break;
    parts.push_back({found + separator.size(), end});
    end = found;
  }
  parts.push_back({0, end});
  std::reverse(parts.begin(), parts.end());
  return parts;
}

Result<Value> Pieces(const TracedText& text, const std::vector<ByteRange>& ranges, Budget& budget,
                     ListKind kind = ListKind::kList) {
  RETURN_IF_ERROR(budget.Work(ranges.size() * (sizeof(Value) + sizeof(TracedText))));
  std::vector<Value> parts;
  parts.reserve(ranges.size());
  for (const ByteRange& range : ranges) {
    TRY(Value part, Substring(text, range.begin, range.end, budget));
    parts.push_back(std::move(part));
  }
  return MakeList(std::move(parts), budget, kind);
}

template <bool from_right>
Result<Value> Split(Interpreter& run, const Value& self, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"sep", "maxsplit"}));
  TRY(const TracedText* separator, bound.GetText(0));
  TRY(const Int splits, bound.GetInt(1, -1));
  const TracedText& text = *self.AsText();
  RETURN_IF_ERROR(run.budget().Work(text.bytes.size()));
  if (!separator) return Pieces(text, SplitSpace(text.bytes, splits, from_right), run.budget());
  if (separator->bytes.empty()) return Error(Code::kInvalidArgument, "an empty separator");
  // Searching from the right may compare all of the separator at every byte.
  if (from_right)
    RETURN_IF_ERROR(run.budget().Work(text.bytes.size() * (1 + separator->bytes.size() / 16)));
  return Pieces(text, SplitAt(text.bytes, separator->bytes, splits, from_right), run.budget());
}

template <bool from_right>
Result<Value> Partition(Interpreter& run, const Value& self, const Arguments& args) {
  RETURN_IF_ERROR(Count(args, 1, 1));
  TRY(const TracedText* separator, TextAt(args, 0));
  if (separator->bytes.empty()) return Error(Code::kInvalidArgument, "an empty separator");
  const TracedText& text = *self.AsText();
  const size_t size = text.bytes.size();
  RETURN_IF_ERROR(run.budget().Work(size));
  const std::vector<ByteRange> parts = SplitAt(text.bytes, separator->bytes, 1, from_right);
  if (parts.size() == 2)
    return Pieces(text, {parts[0], {parts[0].end, parts[1].begin}, parts[1]}, run.budget(),
                  ListKind::kTuple);
  if (from_right) return Pieces(text, {{0, 0}, {0, 0}, {0, size}}, run.budget(), ListKind::kTuple);
  return Pieces(text, {{0, size}, {size, size}, {size, size}}, run.budget(), ListKind::kTuple);
}

Result<Value> Lines(Interpreter& run, const Value& self, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"keepends"}));
  return SplitLines(*self.AsText(), bound.Truth(0, false), run.budget());
}

// The bytes that optional start and end arguments (in characters) leave of a text; `valid` is false
// where start lies behind the end.
struct Part {
  std::string_view text;
  size_t begin = 0;
  Int first = 0;  // characters before begin
  bool valid = true;
};

Result<Part> PartOf(const TracedText& text, const Arguments& args, Budget& budget) {
  RETURN_IF_ERROR(budget.Work(text.bytes.size()));
  Part part{text.bytes, 0, 0, true};
  if (args.positional.size() < 2) return part;
  const Int size = static_cast<Int>(CountCodePoints(text.bytes));
  Int bounds[2] = {0, size};
  for (size_t i = 0; i < 2 && i + 1 < args.positional.size(); ++i) {
    if (args.positional[i + 1].IsNone()) continue;
    Int storage;
    const Int* bound = args.positional[i + 1].AsInt(storage);
    if (!bound) return Error(Code::kInvalidArgument, "a bound of the search is not an int");
    bounds[i] = *bound < -size ? 0 : *bound < 0 ? *bound + size : *bound;
  }
  bounds[1] = std::min(bounds[1], size);
  part.valid = bounds[0] <= bounds[1];
  if (!part.valid) return part;
  const ByteRange range =
      CodePointRange(text.bytes, static_cast<size_t>(bounds[0]), static_cast<size_t>(bounds[1]));
  part.text = std::string_view(text.bytes).substr(range.begin, range.end - range.begin);
  part.begin = range.begin;
  part.first = bounds[0];
  return part;
}

template <bool at_end>
Result<Value> StartsOrEnds(Interpreter& run, const Value& self, const Arguments& args) {
  RETURN_IF_ERROR(Count(args, 1, 3));
  std::vector<Value> options = {args.positional[0]};
  if (const List* tuple = args.positional[0].AsList(); tuple && tuple->kind == ListKind::kTuple)
    options = tuple->items;
  const TracedText& text = *self.AsText();
  Part part{text.bytes, 0, 0, true};
  if (args.positional.size() > 1) {
    TRY(part, PartOf(text, args, run.budget()));
  }
  for (const Value& option : options) {
    const TracedText* affix = option.AsText();
    if (!affix)
      return Error(Code::kInvalidArgument, "the method takes a str or a tuple of them, not a {}",
                   option.TypeName());
    RETURN_IF_ERROR(run.budget().Work(affix->bytes.size()));
    if (part.valid &&
        (at_end ? part.text.ends_with(affix->bytes) : part.text.starts_with(affix->bytes)))
      return Value(true);
  }
  return Value(false);
}

template <bool from_right, bool must>
Result<Value> Find(Interpreter& run, const Value& self, const Arguments& args) {
  RETURN_IF_ERROR(Count(args, 1, 3));
  TRY(const TracedText* what, TextAt(args, 0));
  TRY(const Part part, PartOf(*self.AsText(), args, run.budget()));
  if (from_right)
    RETURN_IF_ERROR(run.budget().Work(part.text.size() * (1 + what->bytes.size() / 16)));
  size_t found = std::string_view::npos;
  if (part.valid)
    found = from_right ? part.text.rfind(what->bytes) : FindBytes(part.text, what->bytes, 0);
  if (found != std::string_view::npos)
    return Value(part.first + static_cast<Int>(CountCodePoints(part.text.substr(0, found))));
  if (must) return Error(Code::kInvalidArgument, "the text to find is not there");
  return Value(Int{-1});
}

Result<Value> CountText(Interpreter& run, const Value& self, const Arguments& args) {
  RETURN_IF_ERROR(Count(args, 1, 3));
  TRY(const TracedText* what, TextAt(args, 0));
  TRY(const Part part, PartOf(*self.AsText(), args, run.budget()));
  if (!part.valid) return Value(Int{0});
  if (what->bytes.empty()) return Value(static_cast<Int>(CountCodePoints(part.text)) + 1);
  Int count = 0;
  for (size_t pos = 0; (pos = FindBytes(part.text, what->bytes, pos)) != std::string_view::npos;
       pos += what->bytes.size())
    ++count;
  return Value(count);
}

Result<Value> Replace(Interpreter& run, const Value& self, const Arguments& args) {
  RETURN_IF_ERROR(Count(args, 2, 3));
  TRY(const TracedText* from, TextAt(args, 0));
  TRY(const TracedText* to, TextAt(args, 1));
  Int count = -1;
  if (args.positional.size() == 3) {
    Int storage;
    const Int* given = args.positional[2].AsInt(storage);
    if (!given) return Error(Code::kInvalidArgument, "the count of replace is not an int");
    count = *given;
  }
  return ReplaceText(*self.AsText(), *from, *to, count, run.budget());
}

Result<Value> Join(Interpreter& run, const Value& self, const Arguments& args) {
  RETURN_IF_ERROR(Count(args, 1, 1));
  TRY(const ListPtr items, Iterate(args.positional[0], run.budget()));
  if (args.positional[0].IsUndefined()) return Value::Trusted("");
  TextBuilder out(run.budget());
  for (size_t i = 0; i < items->items.size(); ++i) {
    const TracedText* item = items->items[i].AsText();
    if (!item)
      return Error(Code::kInvalidArgument, "join takes texts; item {} is a {}", i,
                   items->items[i].TypeName());
    RETURN_IF_ERROR(run.budget().Ticks(1));
    if (i) out.Append(*self.AsText());
    out.Append(*item);
  }
  TRY(TextPtr joined, out.Finish());
  return Value(std::move(joined));
}

template <bool suffix>
Result<Value> RemoveAffix(Interpreter& run, const Value& self, const Arguments& args) {
  RETURN_IF_ERROR(Count(args, 1, 1));
  TRY(const TracedText* affix, TextAt(args, 0));
  const std::string& text = self.AsText()->bytes;
  const size_t size = affix->bytes.size();
  if (suffix ? !text.ends_with(affix->bytes) : !text.starts_with(affix->bytes)) return self;
  return Substring(*self.AsText(), suffix ? 0 : size, suffix ? text.size() - size : text.size(),
                   run.budget());
}

template <Side side>
Result<Value> JustifyMethod(Interpreter& run, const Value& self, const Arguments& args) {
  RETURN_IF_ERROR(Count(args, 1, 2));
  Int storage;
  const Int* width = args.positional[0].AsInt(storage);
  if (!width) return Error(Code::kInvalidArgument, "the width is not an int");
  const TracedText space = TracedText::Trusted(" ");
  const TracedText* fill = &space;
  if (args.positional.size() == 2) {
    TRY(fill, TextAt(args, 1));
  }
  return Justify(*self.AsText(), *width, *fill, side, run.budget());
}

Result<Value> ZeroFill(Interpreter& run, const Value& self, const Arguments& args) {
  RETURN_IF_ERROR(Count(args, 1, 1));
  Int storage;
  const Int* width = args.positional[0].AsInt(storage);
  if (!width) return Error(Code::kInvalidArgument, "the width is not an int");
  const TracedText& text = *self.AsText();
  const size_t sign = text.bytes.starts_with('-') || text.bytes.starts_with('+') ? 1 : 0;
  TRY(const Value digits, Substring(text, sign, text.bytes.size(), run.budget()));
  TRY(const Value filled, Justify(*digits.AsText(), *width - static_cast<Int>(sign),
                                  TracedText::Trusted("0"), Side::kRight, run.budget()));
  TextBuilder out(run.budget());
  out.Append(text, 0, sign);
  out.Append(*filled.AsText());
  TRY(TextPtr result, out.Finish());
  return Value(std::move(result));
}

// All characters have the property, and there is one at least.
template <bool (*property)(uint32_t)>
Result<Value> All(Interpreter& run, const Value& self, const Arguments& args) {
  RETURN_IF_ERROR(Count(args, 0, 0));
  const std::string& text = self.AsText()->bytes;
  RETURN_IF_ERROR(run.budget().Work(text.size()));
  for (size_t pos = 0; pos < text.size();) {
    const CodePoint c = DecodeAt(text, pos);
    if (!property(c.value)) return Value(false);
    pos += c.bytes;
  }
  return Value(!text.empty());
}

bool IsAlnum(uint32_t c) { return IsAlpha(c) || IsDecimal(c) || IsDigit(c) || IsNumeric(c); }

Result<Value> IsAscii(Interpreter&, const Value& self, const Arguments& args) {
  RETURN_IF_ERROR(Count(args, 0, 0));
  const std::string& text = self.AsText()->bytes;
  return Value(std::all_of(text.begin(), text.end(),
                           [](char c) { return static_cast<unsigned char>(c) < 0x80; }));
}

// Cased characters are all of the one case, and there is one at least.
template <bool upper>
Result<Value> IsCase(Interpreter& run, const Value& self, const Arguments& args) {
  RETURN_IF_ERROR(Count(args, 0, 0));
  const std::string& text = self.AsText()->bytes;
  RETURN_IF_ERROR(run.budget().Work(text.size()));
  bool any = false;
  for (size_t pos = 0; pos < text.size();) {
    const CodePoint c = DecodeAt(text, pos);
    if (IsTitle(c.value) || (upper ? IsLower(c.value) : IsUpper(c.value))) return Value(false);
    any |= upper ? IsUpper(c.value) : IsLower(c.value);
    pos += c.bytes;
  }
  return Value(any);
}

// str.format with {}, {0} and {name}; anything finer is refused.
class Formatter {
 public:
  Formatter(std::string_view text, const TracedText& traced, const Arguments& args, Budget& budget)
      : text_(text), traced_(traced), args_(args), budget_(budget), out_(budget) {}

  Result<Value> Run() {
    size_t pos = 0;
    while (pos < text_.size() && !out_.full()) {
      const size_t brace = std::min(text_.find_first_of("{}", pos), text_.size());
      out_.Append(traced_, pos, brace);
      pos = brace;
      if (pos == text_.size()) break;
      if (pos + 1 < text_.size() && text_[pos + 1] == text_[pos]) {
        out_.Append(traced_, pos, pos + 1);
        pos += 2;
        continue;
      }
      const size_t end = text_.find('}', pos);
      if (text_[pos] == '}' || end == std::string_view::npos)
        return Error(Code::kInvalidArgument, "a single brace in a format");
      RETURN_IF_ERROR(Field(text_.substr(pos + 1, end - pos - 1)));
      pos = end + 1;
    }
    TRY(TextPtr result, out_.Finish());
    return Value(std::move(result));
  }

 private:
  Status Field(std::string_view name) {
    if (name.find_first_of(".[:!{") != std::string_view::npos)
      return Error(Code::kInvalidArgument, "the format field {} is not supported", Quoted(name));
    const bool number = !name.empty() && std::all_of(name.begin(), name.end(),
                                                     [](char c) { return c >= '0' && c <= '9'; });
    if (!name.empty() && !number) {
      for (const auto& [other, value] : args_.named)
        if (other == name) return AppendText(value, out_, budget_);
      return Error(Code::kInvalidArgument, "no value for the format field {}", Quoted(name));
    }
    if ((name.empty() ? 1 : 2) == 3 - style_)
      return Error(Code::kInvalidArgument, "a format that mixes {{}} and {{0}}");
    style_ = name.empty() ? 1 : 2;
    size_t index = name.empty() ? next_++ : 0;
    for (const char c : name)
      index = std::min<size_t>(index * 10 + static_cast<size_t>(c - '0'), 1 << 20);
    if (index >= args_.positional.size())
      return Error(Code::kInvalidArgument, "no value for field {} of a format", index);
    return AppendText(args_.positional[index], out_, budget_);
  }

  std::string_view text_;
  const TracedText& traced_;
  const Arguments& args_;
  Budget& budget_;
  TextBuilder out_;
  size_t next_ = 0;
  int style_ = 0;  // 1: {}, 2: {0}
};

Result<Value> Format(Interpreter& run, const Value& self, const Arguments& args) {
  return Formatter(self.AsText()->bytes, *self.AsText(), args, run.budget()).Run();
}

}  // namespace

std::span<const Method> TextMethods() {
  static constexpr Method kMethods[] = {
      // clang-format off
      {"upper", ToCase<Case::kUpper>},             {"lower", ToCase<Case::kLower>},
      {"capitalize", ToCase<Case::kCapitalize>},   {"title", ToCase<Case::kTitle>},
      {"strip", Strip<true, true>},                {"lstrip", Strip<true, false>},
      {"rstrip", Strip<false, true>},              {"split", Split<false>},
      {"rsplit", Split<true>},                     {"splitlines", Lines},
      {"partition", Partition<false>},             {"rpartition", Partition<true>},
      {"startswith", StartsOrEnds<false>},         {"endswith", StartsOrEnds<true>},
      {"find", Find<false, false>},                {"rfind", Find<true, false>},
      {"index", Find<false, true>},                {"rindex", Find<true, true>},
      {"count", CountText},                        {"replace", Replace},
      {"join", Join},                              {"format", Format},
      {"removeprefix", RemoveAffix<false>},        {"removesuffix", RemoveAffix<true>},
      {"ljust", JustifyMethod<Side::kLeft>},       {"rjust", JustifyMethod<Side::kRight>},
      {"center", JustifyMethod<Side::kBoth>},      {"zfill", ZeroFill},
      {"isspace", All<IsSpace>},                   {"isalpha", All<IsAlpha>},
      {"isalnum", All<IsAlnum>},                   {"isdigit", All<IsDigit>},
      {"isdecimal", All<IsDecimal>},               {"isnumeric", All<IsNumeric>},
      {"isascii", IsAscii},                        {"isupper", IsCase<true>},
      {"islower", IsCase<false>},
      {"casefold", nullptr},     {"encode", nullptr},      {"expandtabs", nullptr},
      {"format_map", nullptr},   {"isidentifier", nullptr}, {"isprintable", nullptr},
      {"istitle", nullptr},      {"maketrans", nullptr},   {"swapcase", nullptr},
      {"translate", nullptr},
      // clang-format on
  };
  return kMethods;
}

}  // namespace sluice::jinja
