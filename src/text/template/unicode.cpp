#include "text/template/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>

#include "text/template/unicode_tables.h"

namespace sluice::jinja {

CodePoint DecodeAt(std::string_view text, size_t pos) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[pos + i]); };
  const uint32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  const size_t bytes = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  uint32_t value = first & (0x7F >> bytes);
  if (bytes > text.size() - pos) return {0xFFFD, text.size() - pos};
  for (size_t i = 1; i < bytes; ++i) value = value << 6 | (byte(i) & 0x3F);
  return {value, bytes};
}

void AppendUtf8(uint32_t c, std::string& out) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
  } else if (c < 0x10000) {
    out += {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3F)),
            static_cast<char>(0x80 | (c & 0x3F))};
  } else {
    out += {static_cast<char>(0xF0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 0x3F)),
            static_cast<char>(0x80 | (c >> 6 & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
  }
}

std::string Utf8(uint32_t code_point) {
  std::string out;
  AppendUtf8(code_point, out);
  return out;
}

bool IsUtf8(std::string_view text) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  auto left = static_cast<utf8proc_ssize_t>(text.size());
  while (left > 0) {
    utf8proc_int32_t code_point;
    const utf8proc_ssize_t read = utf8proc_iterate(bytes, left, &code_point);
    if (read <= 0) return false;
    bytes += read;
    left -= read;
  }
  return true;
}

size_t CountCodePoints(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

bool IsSpace(uint32_t c) {
  if (c < 0x80) return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

size_t LeadingSpace(std::string_view text) {
  size_t pos = 0;
  while (pos < text.size()) {
    const CodePoint c = DecodeAt(text, pos);
    if (!IsSpace(c.value)) break;
    pos += c.bytes;
  }
  return pos;
}

size_t EndWithoutSpace(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t begin = end - 1;
    while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
    if (!IsSpace(DecodeAt(text, begin).value)) break;
    end = begin;
  }
  return end;
}

bool IsLineBreak(uint32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

static utf8proc_category_t Category(uint32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

template <size_t n>
static bool InRanges(const CodeRange (&ranges)[n], uint32_t c) {
  const auto* range = std::partition_point(std::begin(ranges), std::end(ranges),
                                           [c](const CodeRange& r) { return r.last < c; });
  return range != std::end(ranges) && range->first <= c;
}

bool IsAlpha(uint32_t c) {
  const auto category = Category(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}
bool IsDecimal(uint32_t c) { return Category(c) == UTF8PROC_CATEGORY_ND; }
bool IsDigit(uint32_t c) { return IsDecimal(c) || InRanges(kOtherDigits, c); }
bool IsNumeric(uint32_t c) {
  const auto category = Category(c);
  return (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) ||
         InRanges(kOtherNumeric, c);
}
bool IsUpper(uint32_t c) {
  return Category(c) == UTF8PROC_CATEGORY_LU || InRanges(kOtherUppercase, c);
}
bool IsLower(uint32_t c) {
  return Category(c) == UTF8PROC_CATEGORY_LL || InRanges(kOtherLowercase, c);
}
bool IsTitle(uint32_t c) { return Category(c) == UTF8PROC_CATEGORY_LT; }

bool IsCaseIgnorable(uint32_t c) {
  // Word_Break MidLetter, MidNumLet and Single_Quote; then the categories.
  static constexpr uint32_t kMarks[] = {0x27,   0x2E,   0x3A,   0xB7,   0x387,  0x55F,
                                        0x5F4,  0x2018, 0x2019, 0x2024, 0x2027, 0xFE13,
                                        0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A};
  if (std::find(std::begin(kMarks), std::end(kMarks), c) != std::end(kMarks)) return true;
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK: return true;
    default: return false;
  }
}

bool IsPrintable(uint32_t c) {
  if (c == ' ') return true;
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return false;
    default: return true;
  }
}

static const FullCase* FindFullCase(uint32_t c) {
  const auto* row = std::partition_point(std::begin(kFullCase), std::end(kFullCase),
                                         [c](const FullCase& r) { return r.code_point < c; });
  return row != std::end(kFullCase) && row->code_point == c ? row : nullptr;
}

static std::string Joined(const uint32_t (&code_points)[3]) {
  std::string out;
  for (const uint32_t c : code_points)
    if (c) AppendUtf8(c, out);
  return out;
}

std::string Upper(uint32_t c) {
  if (c < 0x80)
    return std::string(1, c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : static_cast<char>(c));
  if (const FullCase* full = FindFullCase(c)) return Joined(full->upper);
  return Utf8(static_cast<uint32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
}

std::string Lower(uint32_t c) {
  if (c < 0x80)
    return std::string(1, c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : static_cast<char>(c));
  if (c == 0x130) return "i\u0307";  // the one full lower-case mapping: I with dot
  return Utf8(static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
}

std::string Title(uint32_t c) {
  if (c < 0x80) return Upper(c);
  if (const FullCase* full = FindFullCase(c)) return Joined(full->title);
  return Utf8(static_cast<uint32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
}

}  // namespace sluice::jinja
