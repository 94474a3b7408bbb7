#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice {

/// The known word that is fewest edits away from `word`, or empty if none is near.
std::string Nearest(std::string_view word, const std::vector<std::string>& known);

}  // namespace sluice
