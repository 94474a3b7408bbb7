#include "server/json/utf8.h"

#include <algorithm>

#include "text/tokenizer/utf8.h"

namespace sluice {

std::optional<size_t> FindInvalidUtf8(std::string_view text) {
  const size_t valid = ValidPrefix(text);
  return valid == text.size() ? std::nullopt : std::optional(valid);
}

std::string RepairUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  AppendRepaired(text, false, &out);
  return out;
}

size_t CountCodePoints(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

}  // namespace sluice
