// Rows that are quantised as a product reads them, so that it runs on integers.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "formats/packed_matrix.h"

namespace sluice {

/// How the rows of a product are read. kInt8: each row x by itself, with scale s = max |x| / 127
/// and codes round(x / s) in [-127, 127], ties to even. It applies where the weights are integers
/// too (int8, int4); products of other formats take the rows as they are.
enum class ActivationQuant : uint8_t { kNone, kInt8 };

/// By name: "none", "int8", or "auto": int8, which every instruction set multiplies faster than
/// floats (integer/README.md). Errors: kInvalidArgument.
Result<ActivationQuant> ParseActivationQuant(std::string_view name);

/// Longer rows are never quantised: their sums might not fit 32 bits.
inline constexpr int64_t kQuantizedInputsMax = 128 << 10;

/// Whether products with `weight` quantise their rows: a property of the matrix, not of a call.
bool QuantizesRows(ActivationQuant quant, const PackedMatrix& weight);

/// A quantised row: x[i] is about scale * codes[i].
struct QuantizedRow {
  float scale;  // NaN if a value of the row is NaN or infinite; the codes are zeros then
  std::vector<int8_t> codes;
};

/// Rows whose values are all smaller than this count as zeros: 127 / max |x| would overflow.
inline constexpr float kQuantizedRowMin = 0x1p-119f;

/// The definition, to the bit: the scale is the fp32 quotient, a code is x * (127 / max |x|), both
/// steps rounded to fp32, rounded to an integer.
QuantizedRow QuantizeRow(const float* x, int64_t inputs);

/// For references: what products with `weight` read of a row x [inputs] of fp32 values, x itself or
/// scale * codes.
std::vector<double> RowAsRead(ActivationQuant quant, const PackedMatrix& weight, const double* x);

}  // namespace sluice
