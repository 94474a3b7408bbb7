// UTF-8 at the edge: strict on the way in, repaired on the way out (Unicode 15, table 3-7).
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace sluice {

/// The offset of the first byte that is not part of well-formed UTF-8, or none.
std::optional<size_t> FindInvalidUtf8(std::string_view text);

/// `text` with U+FFFD in place of each maximal part that is no character, as the detokenizer and
/// Python write it.
std::string RepairUtf8(std::string_view text);

/// Number of code points of well-formed UTF-8.
size_t CountCodePoints(std::string_view text);

}  // namespace sluice
