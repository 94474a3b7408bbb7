// Unicode classes of code points, as the regular expressions of `tokenizers` see them (Unicode 16).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace sluice {

/// Bits of a code point's class.
enum CharClass : uint8_t {
  kLetter = 1,        // \p{L}
  kNumber = 2,        // \p{N}
  kSpace = 4,         // \s: White_Space
  kWord = 8,          // \w of Rust's regex crate
  kMark = 16,         // \p{M}
  kPunctuation = 32,  // \p{P} or \p{S}
};

/// A two-stage table, built once from utf8proc (about 10 ms) and then shared.
class UnicodeClasses {
 public:
  static const UnicodeClasses& Get();

  uint8_t operator[](char32_t code_point) const {
    return blocks_[size_t{block_of_[code_point >> 8]} << 8 | (code_point & 0xFF)];
  }

 private:
  UnicodeClasses();
  std::array<uint16_t, 0x1100> block_of_;
  std::vector<uint8_t> blocks_;
};

}  // namespace sluice
