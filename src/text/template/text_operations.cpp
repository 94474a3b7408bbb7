// Text operations that filters and methods share. Each keeps the origin of every byte.
#include <algorithm>

#include "text/template/builtins.h"
#include "text/template/operators.h"
#include "text/template/unicode.h"

namespace sluice::jinja {

static bool Has(std::string_view chars, std::string_view c) {
  for (size_t pos = 0; pos < chars.size();) {
    const size_t bytes = DecodeAt(chars, pos).bytes;
    if (chars.substr(pos, bytes) == c) return true;
    pos += bytes;
  }
  return false;
}

Result<Value> StripText(const TracedText& text, const Value* chars, bool left, bool right,
                        Budget& budget) {
  const std::string_view bytes = text.bytes;
  size_t begin = 0, end = bytes.size();
  if (!chars || chars->IsNone()) {
    if (left) begin = LeadingSpace(bytes);
    if (right) end = std::max(begin, EndWithoutSpace(bytes));
    return Substring(text, begin, end, budget);
  }
  const TracedText* set = chars->AsText();
  if (!set) return Error(Code::kInvalidArgument, "strips a str, not a {}", chars->TypeName());
  const uint64_t set_bytes = set->bytes.size();
  while (left && begin < end) {
    const size_t size = DecodeAt(bytes, begin).bytes;
    RETURN_IF_ERROR(budget.Work(set_bytes));
    if (!Has(set->bytes, bytes.substr(begin, size))) break;
    begin += size;
  }
  while (right && begin < end) {
    size_t last = end - 1;
    while (last > begin && (static_cast<unsigned char>(bytes[last]) & 0xC0) == 0x80) --last;
    RETURN_IF_ERROR(budget.Work(set_bytes));
    if (!Has(set->bytes, bytes.substr(last, end - last))) break;
    end = last;
  }
  return Substring(text, begin, end, budget);
}

static Result<Value> InsertBetween(const TracedText& text, const TracedText& to, Int count,
                                   Budget& budget) {
  TextBuilder out(budget);
  size_t pos = 0;
  for (; count != 0 && !out.full(); --count) {
    out.Append(to);
    if (pos == text.bytes.size()) break;
    const size_t bytes = DecodeAt(text.bytes, pos).bytes;
    out.Append(text, pos, pos + bytes);
    pos += bytes;
  }
  out.Append(text, pos, text.bytes.size());
  TRY(TextPtr result, out.Finish());
  return Value(std::move(result));
}

// A negative count means all.
Result<Value> ReplaceText(const TracedText& text, const TracedText& from, const TracedText& to,
                          Int count, Budget& budget) {
  RETURN_IF_ERROR(budget.Work(text.bytes.size()));
  if (from.bytes.empty()) return InsertBetween(text, to, count, budget);
  TextBuilder out(budget);
  size_t begin = 0;
  for (; count != 0 && !out.full(); --count) {
    const size_t found = FindBytes(text.bytes, from.bytes, begin);
    if (found == std::string_view::npos) break;
    out.Append(text, begin, found);
    out.Append(to);
    begin = found + from.bytes.size();
  }
  out.Append(text, begin, text.bytes.size());
  TRY(TextPtr result, out.Finish());
  return Value(std::move(result));
}

Result<Value> SplitLines(const TracedText& text, bool keep_ends, Budget& budget) {
  const std::string_view bytes = text.bytes;
  std::vector<Value> lines;
  size_t begin = 0;
  for (size_t pos = 0; pos < bytes.size();) {
    const CodePoint c = DecodeAt(bytes, pos);
    size_t next = pos + c.bytes;
    if (!IsLineBreak(c.value)) {
      pos = next;
      continue;
    }
    if (c.value == '\r' && next < bytes.size() && bytes[next] == '\n') ++next;
    TRY(Value line, Substring(text, begin, keep_ends ? next : pos, budget));
    RETURN_IF_ERROR(budget.Work(sizeof(Value) + sizeof(TracedText)));
    lines.push_back(std::move(line));
    begin = pos = next;
  }
  if (begin < bytes.size()) {
    TRY(Value line, Substring(text, begin, bytes.size(), budget));
    lines.push_back(std::move(line));
  }
  return MakeList(std::move(lines), budget);
}

namespace {

bool IsCased(uint32_t c) { return IsUpper(c) || IsLower(c) || IsTitle(c); }

// Walks code points of a text and writes them in another case.
class CaseWriter {
 public:
  CaseWriter(const TracedText& text, TextBuilder& out)
      : text_(text.bytes), trust_(text), out_(out) {}

  void Put(size_t pos, const std::string& mapped) { out_.Append(mapped, trust_.At(pos)); }

  void Lower(size_t begin, size_t end) {
    for (size_t pos = begin; pos < end && !out_.full();) {
      const CodePoint c = DecodeAt(text_, pos);
      Put(pos, LowerAt(pos, c.value, begin, end));
      pos += c.bytes;
    }
  }

  // With the rule for a sigma at the end of a word; the word lies in [begin, end).
  std::string LowerAt(size_t pos, uint32_t c, size_t begin, size_t end) const {
    if (c != 0x3A3) return jinja::Lower(c);
    return FinalSigma(pos, begin, end) ? "\u03C2" : "\u03C3";
  }

 private:
  bool FinalSigma(size_t pos, size_t begin, size_t end) const {
    bool cased_before = false;
    for (size_t i = pos; i > begin;) {
      --i;
      while (i > begin && (static_cast<unsigned char>(text_[i]) & 0xC0) == 0x80) --i;
      const uint32_t c = DecodeAt(text_, i).value;
      if (IsCaseIgnorable(c)) continue;
      cased_before = IsCased(c);
      break;
    }
    if (!cased_before) return false;
    for (size_t i = pos + 2; i < end;) {
      const CodePoint c = DecodeAt(text_, i);
      if (!IsCaseIgnorable(c.value)) return !IsCased(c.value);
      i += c.bytes;
    }
    return true;
  }

  std::string_view text_;
  TrustCursor trust_;
  TextBuilder& out_;
};

// str.title: a letter behind a letter is small.
void TitleWords(std::string_view text, CaseWriter& writer) {
  bool behind_cased = false;
  for (size_t pos = 0; pos < text.size();) {
    const CodePoint c = DecodeAt(text, pos);
    writer.Put(pos, behind_cased ? writer.LowerAt(pos, c.value, 0, text.size()) : Title(c.value));
    behind_cased = IsCased(c.value);
    pos += c.bytes;
  }
}

// The filter `title`: words are what lies between -, white space and opening brackets.
void JinjaTitle(std::string_view text, CaseWriter& writer) {
  const auto separates = [&](size_t pos) {
    const uint32_t c = DecodeAt(text, pos).value;
    return IsSpace(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
  };
  for (size_t pos = 0; pos < text.size();) {
    const bool separator = separates(pos);
    size_t end = pos;
    while (end < text.size() && separates(end) == separator) end += DecodeAt(text, end).bytes;
    const CodePoint first = DecodeAt(text, pos);
    writer.Put(pos, Upper(first.value));
    writer.Lower(pos + first.bytes, end);
    pos = end;
  }
}

}  // namespace

Result<Value> ChangeCase(const TracedText& text, Case to, Budget& budget) {
  TextBuilder out(budget);
  CaseWriter writer(text, out);
  const size_t size = text.bytes.size();
  switch (to) {
    case Case::kUpper:
      for (size_t pos = 0; pos < size && !out.full();) {
        const CodePoint c = DecodeAt(text.bytes, pos);
        writer.Put(pos, Upper(c.value));
        pos += c.bytes;
      }
      break;
    case Case::kLower: writer.Lower(0, size); break;
    case Case::kCapitalize:
      if (size) {
        const CodePoint first = DecodeAt(text.bytes, 0);
        writer.Put(0, Title(first.value));
        for (size_t pos = first.bytes; pos < size && !out.full();) {
          const CodePoint c = DecodeAt(text.bytes, pos);
          writer.Put(pos, writer.LowerAt(pos, c.value, 0, size));
          pos += c.bytes;
        }
      }
      break;
    case Case::kTitle: TitleWords(text.bytes, writer); break;
    case Case::kJinjaTitle: JinjaTitle(text.bytes, writer); break;
  }
  TRY(TextPtr result, out.Finish());
  return Value(std::move(result));
}

Result<Value> Justify(const TracedText& text, Int width, const TracedText& fill, Side side,
                      Budget& budget) {
  const Int size = static_cast<Int>(CountCodePoints(text.bytes));
  if (CountCodePoints(fill.bytes) != 1)
    return Error(Code::kInvalidArgument, "the fill character must be one character");
  RETURN_IF_ERROR(budget.Work(text.bytes.size()));
  if (width > static_cast<Int>(budget.text_bytes_max())) return budget.TextBytes(~uint64_t{0});
  const Int pad = std::max<Int>(width - size, 0);
  // CPython's rule for what is left over in the middle.
  const Int before = side == Side::kLeft    ? 0
                     : side == Side::kRight ? pad
                                            : pad / 2 + (pad & width & 1);
  TextBuilder out(budget);
  for (Int i = 0; i < before; ++i) out.Append(fill);
  out.Append(text);
  for (Int i = before; i < pad; ++i) out.Append(fill);
  TRY(TextPtr result, out.Finish());
  return Value(std::move(result));
}

}  // namespace sluice::jinja
