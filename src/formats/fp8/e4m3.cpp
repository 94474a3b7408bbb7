#include "formats/fp8/e4m3.h"

#include <bit>
#include <cmath>
#include <limits>

namespace sluice {

float E4M3ToFloat(uint8_t code) {
  const uint32_t exponent = code >> 3 & 15u, mantissa = code & 7u;
  float magnitude = exponent == 0
                        ? static_cast<float>(mantissa) * 0x1p-9f
                        : std::bit_cast<float>((exponent + 127 - 7) << 23 | mantissa << 20);
  if ((code & 0x7F) == 0x7F) magnitude = std::numeric_limits<float>::quiet_NaN();
  return code & 0x80 ? -magnitude : magnitude;
}

const std::array<float, 256>& E4M3Values() {
  static const std::array<float, 256> values = [] {
    std::array<float, 256> out;
    for (size_t code = 0; code < out.size(); ++code)
      out[code] = E4M3ToFloat(static_cast<uint8_t>(code));
    return out;
  }();
  return values;
}

uint8_t FloatToE4M3(float x) {
  const auto sign = static_cast<uint8_t>(std::signbit(x) ? 0x80 : 0);
  const float magnitude = std::fabs(x);
  if (std::isnan(x)) return sign | 0x7F;
  if (magnitude >= kE4M3Max) return sign | 0x7E;
  if (magnitude < 0x1p-6f)  // subnormal: a multiple of 2^-9; eight of them are the least normal
    return sign | static_cast<uint8_t>(std::nearbyint(magnitude * 0x1p9f));
  const uint32_t bits = std::bit_cast<uint32_t>(magnitude);
  const uint32_t rounded = (bits + 0x7FFFFu + (bits >> 20 & 1u)) >> 20;
  return sign | static_cast<uint8_t>(rounded - ((127 - 7) << 3));
}

}  // namespace sluice
