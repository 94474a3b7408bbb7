// UTF-8 by hand: decoding of text known to be valid, and repair of text that is not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice {

constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

struct CodePoint {
  char32_t value;
  uint32_t bytes;
};

/// The character at `text`, which must be valid UTF-8 and not at its end.
inline CodePoint DecodeValid(const char* text) {
  const auto byte = [&](int i) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[i]));
  };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F),
          4};
}

/// Where the character that ends at `end` begins; `end` > 0 and the text is valid UTF-8.
inline size_t PreviousBegin(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return begin;
}

enum class Utf8 {
  kValid,      // one whole character
  kInvalid,    // bytes that can never become a character
  kTruncated,  // a proper prefix of a character, cut off by the end of the text
};

struct Utf8Part {
  Utf8 kind;
  uint32_t bytes;  // length of the character, or of the maximal invalid part (Unicode 3.9, D93b)
};

/// Classifies the first part of `text`, which is not empty.
Utf8Part FirstPart(std::string_view text);

/// Appends `code_point` (a Unicode scalar value) to `out`.
void AppendUtf8(char32_t code_point, std::string* out);

/// The longest prefix that is valid UTF-8, in bytes.
size_t ValidPrefix(std::string_view text);

/// Appends `text` with U+FFFD for each maximal invalid part. With `keep_truncated`, a character cut
/// off at the end is left out. Returns the number of bytes of `text` that were used.
size_t AppendRepaired(std::string_view text, bool keep_truncated, std::string* out);

}  // namespace sluice
