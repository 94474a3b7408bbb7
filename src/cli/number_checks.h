// Checks of numbers in flags. CLI11's own print the largest double in full when they refuse, and
// let "-1" pass as the largest unsigned number.
#pragma once

#include <cmath>
#include <cstdlib>
#include <string>

namespace sluice {

inline std::string NotNegative(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || *end || std::isnan(value)) return text + " is no number from 0 up";
  return text.starts_with('-') ? text + " is negative" : std::string();
}

inline std::string Positive(const std::string& text) {
  return std::strtod(text.c_str(), nullptr) > 0 ? std::string() : text + " is not above 0";
}

}  // namespace sluice
