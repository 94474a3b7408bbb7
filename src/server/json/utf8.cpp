#include "server/json/utf8.h"

#include <algorithm>
#include <cstdint>

namespace sluice {
namespace {

/// Length of the well-formed character at `i`, or 0.
size_t CharacterBytes(std::string_view text, size_t i) {
  const auto at = [&](size_t k) -> uint32_t {
    return k < text.size() ? static_cast<unsigned char>(text[k]) : 0;
  };
  const uint32_t lead = at(i);
  if (lead < 0x80) return 1;
  const auto continues = [&](size_t k) { return (at(k) & 0xC0) == 0x80; };
  if (lead >= 0xC2 && lead <= 0xDF) return continues(i + 1) ? 2 : 0;
  // The second byte's range excludes overlong forms, surrogates and values over U+10FFFF.
  const uint32_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const uint32_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (at(i + 1) < low || at(i + 1) > high) return 0;
  if (lead >= 0xE0 && lead <= 0xEF) return continues(i + 2) ? 3 : 0;
  if (lead >= 0xF0 && lead <= 0xF4) return continues(i + 2) && continues(i + 3) ? 4 : 0;
  return 0;
}

}  // namespace

std::optional<size_t> FindInvalidUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const size_t bytes = CharacterBytes(text, i);
    if (bytes == 0) return i;
    i += bytes;
  }
  return std::nullopt;
}

std::string RepairUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const size_t bytes = CharacterBytes(text, i);
    out.append(bytes == 0 ? std::string_view("\xEF\xBF\xBD") : text.substr(i, bytes));
    i += std::max<size_t>(bytes, 1);
  }
  return out;
}

size_t CountCodePoints(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

}  // namespace sluice
