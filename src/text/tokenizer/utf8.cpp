#include "text/tokenizer/utf8.h"

#include <cstring>

namespace sluice {

Utf8Part FirstPart(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {Utf8::kValid, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Utf8::kInvalid, 1};
  const uint32_t bytes = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and values over U+10FFFF.
  unsigned low = 0x80, high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (uint32_t i = 1; i < bytes; ++i, low = 0x80, high = 0xBF) {
    if (i == text.size()) return {Utf8::kTruncated, i};
    if (byte(i) < low || byte(i) > high) return {Utf8::kInvalid, i};
  }
  return {Utf8::kValid, bytes};
}

void AppendUtf8(char32_t c, std::string* out) {
  const auto tail = [&](int shift) {
    out->push_back(static_cast<char>(0x80 | (c >> shift & 0x3F)));
  };
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out->push_back(static_cast<char>(0xC0 | c >> 6));
    tail(0);
  } else if (c < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | c >> 12));
    tail(6), tail(0);
  } else {
    out->push_back(static_cast<char>(0xF0 | c >> 18));
    tail(12), tail(6), tail(0);
  }
}

size_t ValidPrefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    uint64_t word;
    if (at + 8 <= text.size()) {  // eight ASCII bytes at a time
      std::memcpy(&word, text.data() + at, 8);
      if ((word & 0x8080808080808080u) == 0) {
        at += 8;
        continue;
      }
    }
    const Utf8Part part = FirstPart(text.substr(at));
    if (part.kind != Utf8::kValid) break;
    at += part.bytes;
  }
  return at;
}

size_t AppendRepaired(std::string_view text, bool keep_truncated, std::string* out) {
  size_t at = 0;
  while (true) {
    const size_t valid = ValidPrefix(text.substr(at));
    out->append(text.substr(at, valid));
    at += valid;
    if (at == text.size()) return at;
    const Utf8Part part = FirstPart(text.substr(at));
    if (part.kind == Utf8::kTruncated && keep_truncated) return at;
    out->append(kReplacementCharacter);
    at += part.bytes;
  }
}

}  // namespace sluice
