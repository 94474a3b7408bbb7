// OCP 8-bit floats, e4m3fn: 1 sign, 4 exponent (bias 7) and 3 mantissa bits; subnormals down to
// 2^-9, largest value 448, no infinity; 0x7F and 0xFF are NaN.
// Source: OCP 8-bit Floating Point Specification, revision 1.0, table 1.
#pragma once

#include <array>
#include <cstdint>

namespace sluice {

inline constexpr float kE4M3Max = 448;

/// Exact; the NaN codes give NaN.
float E4M3ToFloat(uint8_t code);
/// Those of all codes, for loops.
const std::array<float, 256>& E4M3Values();

/// The nearest value, ties to even; beyond the largest value that one; NaN stays NaN.
uint8_t FloatToE4M3(float x);

}  // namespace sluice
