#include "text/tokenizer/scanners.h"

#include "text/tokenizer/unicode_classes.h"
#include "text/tokenizer/utf8.h"

namespace sluice {
namespace {

struct PatternRow {
  std::string_view pattern;
  Scanner scanner;
};

// Ling's pattern cuts as Qwen's does: `\s*[\r\n]` backtracks to the last line break of the space
// run, where `\s*[\r\n]+` ends too, and the possessive quantifiers stand before disjoint classes.
constexpr PatternRow kPatterns[] = {
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
     Scanner::kGpt2},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     Scanner::kLetters1},
    {R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)",
     Scanner::kLetters1},
    {R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)",
     Scanner::kLetters3},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     Scanner::kLetters3},
    {R"(\p{N}{1,3})", Scanner::kDigits3},
    {"[一-龥\u3040-ゟ゠-ヿ]+", Scanner::kCjk},
    {R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     Scanner::kDeepSeek},
};

constexpr bool IsLineBreak(char32_t c) { return c == '\r' || c == '\n'; }

// A text with a class for each character; the end of the text has class 0 and no bytes.
class Reader {
 public:
  struct Char {
    char32_t value;
    uint32_t bytes;
    uint8_t classes;
    bool Is(uint8_t mask) const { return (classes & mask) != 0; }
  };

  explicit Reader(std::string_view text) : text_(text), classes_(UnicodeClasses::Get()) {}

  size_t size() const { return text_.size(); }
  Char At(size_t at) const {
    if (at >= text_.size()) return {0, 0, 0};
    const CodePoint c = DecodeValid(text_.data() + at);
    return {c.value, c.bytes, classes_[c.value]};
  }
  // The end of the run of characters, from `at` on, that `accept` accepts.
  template <class Accept>
  size_t RunEnd(size_t at, const Accept& accept) const {
    for (Char c = At(at); c.bytes != 0 && accept(c); c = At(at)) at += c.bytes;
    return at;
  }
  size_t LettersEnd(size_t at) const {
    while (at < text_.size() && static_cast<unsigned char>((text_[at] | 0x20) - 'a') < 26) ++at;
    return RunEnd(at, [](const Char& c) { return c.Is(kLetter); });
  }
  size_t LineBreaksEnd(size_t at) const {
    while (at < text_.size() && IsLineBreak(static_cast<unsigned char>(text_[at]))) ++at;
    return at;
  }

 private:
  std::string_view text_;
  const UnicodeClasses& classes_;
};

// [^\s\p{L}\p{N}]
bool IsOther(const Reader::Char& c) { return c.bytes != 0 && !c.Is(kSpace | kLetter | kNumber); }

// `\s+(?!\S)|\s+`, after `\s*[\r\n]+` if `breaks_lines`; text begins with white space. A run in
// front of something else leaves its last character to that.
size_t SpaceEnd(const Reader& text, bool breaks_lines) {
  size_t at = 0, last_begin = 0, line_end = 0;
  for (Reader::Char c = text.At(0); c.Is(kSpace); c = text.At(at)) {
    last_begin = at;
    at += c.bytes;
    if (IsLineBreak(c.value)) line_end = at;
  }
  if (breaks_lines && line_end != 0) return line_end;
  return at == text.size() || last_begin == 0 ? at : last_begin;
}

// 's 't 'm 'd 're 've 'll after an apostrophe at 0; 0 if there is none. Where case is ignored,
// U+017F (long s) counts as an s: simple case folding joins them.
size_t ContractionEnd(const Reader& text, bool ignore_case) {
  const auto letter = [&](const Reader::Char& c) -> char32_t {
    if (!ignore_case) return c.value;
    if (c.value == 0x17F) return 's';
    return c.value >= 'A' && c.value <= 'Z' ? c.value | 0x20 : c.value;
  };
  const Reader::Char next = text.At(1);
  const char32_t first = letter(next);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 1 + next.bytes;
  const char32_t second = letter(text.At(2));
  const bool is_pair =
      (first == 'l' && second == 'l') || ((first == 'r' || first == 'v') && second == 'e');
  return is_pair ? 3 : 0;
}

size_t Gpt2End(const Reader& text) {
  const Reader::Char first = text.At(0);
  if (first.value == '\'')
    if (const size_t end = ContractionEnd(text, false)) return end;
  const size_t begin = first.value == ' ' ? 1 : 0;
  const Reader::Char c = text.At(begin);
  if (c.Is(kLetter)) return text.LettersEnd(begin);
  if (c.Is(kNumber)) return text.RunEnd(begin, [](const Reader::Char& d) { return d.Is(kNumber); });
  if (IsOther(c)) return text.RunEnd(begin, IsOther);
  return SpaceEnd(text, false);
}

size_t DigitsEnd(const Reader& text, int digits_max) {
  size_t at = 0;
  for (int i = 0; i < digits_max && text.At(at).Is(kNumber); ++i) at += text.At(at).bytes;
  return at;
}

size_t LettersDigitsEnd(const Reader& text, int digits_max) {
  const Reader::Char first = text.At(0);
  if (first.value == '\'')
    if (const size_t end = ContractionEnd(text, true)) return end;
  if (first.Is(kLetter)) return text.LettersEnd(0);
  if (first.Is(kNumber)) return DigitsEnd(text, digits_max);
  const Reader::Char next = text.At(first.bytes);
  if (next.Is(kLetter) && !IsLineBreak(first.value)) return text.LettersEnd(first.bytes);
  const size_t begin = first.value == ' ' ? 1 : 0;
  if (IsOther(begin ? next : first)) return text.LineBreaksEnd(text.RunEnd(begin, IsOther));
  return SpaceEnd(text, true);
}

bool IsAsciiLetter(const Reader::Char& c) { return c.value < 0x80 && c.Is(kLetter); }

// Matches of the stage's pattern are pieces; what matches nothing (digits, CJK, controls) runs on
// to the next match.
size_t DeepSeekMatchEnd(const Reader& text) {
  const auto is_letter = [](const Reader::Char& c) { return c.Is(kLetter | kMark); };
  const auto is_sign = [](const Reader::Char& c) { return c.Is(kPunctuation); };
  const Reader::Char first = text.At(0);
  const Reader::Char next = text.At(first.bytes);
  if (first.value < 0x80 && first.Is(kPunctuation) && IsAsciiLetter(next))
    return text.RunEnd(1, IsAsciiLetter);
  const bool may_lead = !IsLineBreak(first.value) && !first.Is(kLetter | kPunctuation);
  if (may_lead && is_letter(next)) return text.RunEnd(first.bytes, is_letter);
  if (is_letter(first)) return text.RunEnd(0, is_letter);
  const size_t begin = first.value == ' ' ? 1 : 0;
  if (is_sign(begin ? next : first)) return text.LineBreaksEnd(text.RunEnd(begin, is_sign));
  return first.Is(kSpace) ? SpaceEnd(text, true) : 0;
}

size_t DeepSeekEnd(std::string_view text) {
  if (const size_t end = DeepSeekMatchEnd(Reader(text))) return end;
  size_t at = 0;
  do {
    at += DecodeValid(text.data() + at).bytes;
  } while (at < text.size() && DeepSeekMatchEnd(Reader(text.substr(at))) == 0);
  return at;
}

bool IsCjk(const Reader::Char& c) {
  return (c.value >= 0x4E00 && c.value <= 0x9FA5) || (c.value >= 0x3040 && c.value <= 0x30FF);
}

// A run of characters that `accept` accepts, cut after `chars_max`; else a run of the others.
template <class Accept>
size_t ClassRunEnd(const Reader& text, int chars_max, const Accept& accept) {
  if (!accept(text.At(0))) return text.RunEnd(0, [&](const Reader::Char& c) { return !accept(c); });
  int chars = 0;
  return text.RunEnd(0, [&](const Reader::Char& c) { return accept(c) && chars++ != chars_max; });
}

}  // namespace

std::optional<Scanner> FindScanner(std::string_view pattern) {
  for (const PatternRow& row : kPatterns)
    if (row.pattern == pattern) return row.scanner;
  return std::nullopt;
}

size_t PieceBytes(Scanner scanner, std::string_view text) {
  const auto is_number = [](const Reader::Char& c) { return c.Is(kNumber); };
  const Reader reader(text);
  switch (scanner) {
    case Scanner::kGpt2: return Gpt2End(reader);
    case Scanner::kLetters1: return LettersDigitsEnd(reader, 1);
    case Scanner::kLetters3: return LettersDigitsEnd(reader, 3);
    case Scanner::kDigits3: return ClassRunEnd(reader, 3, is_number);
    case Scanner::kCjk: return ClassRunEnd(reader, -1, IsCjk);
    case Scanner::kDeepSeek: return DeepSeekEnd(text);
    case Scanner::kEachDigit: return ClassRunEnd(reader, 1, is_number);
    case Scanner::kDigitRuns: return ClassRunEnd(reader, -1, is_number);
  }
  return text.size();
}

}  // namespace sluice
