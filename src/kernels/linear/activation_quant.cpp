#include "kernels/linear/activation_quant.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace sluice {

Result<ActivationQuant> ParseActivationQuant(std::string_view name) {
  if (name == "none") return ActivationQuant::kNone;
  if (name == "int8" || name == "auto") return ActivationQuant::kInt8;
  return ParamError(Code::kInvalidArgument, "activation-quantization",
                    "activation-quantization is {}, allowed are auto, none, int8", Quoted(name));
}

bool QuantizesRows(ActivationQuant quant, const PackedMatrix& weight) {
  const bool integers =
      weight.format() == WeightFormat::kInt8 || weight.format() == WeightFormat::kInt4;
  return quant == ActivationQuant::kInt8 && integers && weight.inputs() <= kQuantizedInputsMax;
}

QuantizedRow QuantizeRow(const float* x, int64_t inputs) {
  QuantizedRow row{0, std::vector<int8_t>(static_cast<size_t>(inputs))};
  float largest = 0;
  for (int64_t i = 0; i < inputs; ++i) {
    if (!std::isfinite(x[i])) {
      row.scale = std::numeric_limits<float>::quiet_NaN();
      return row;
    }
    largest = std::max(largest, std::fabs(x[i]));
  }
  if (largest < kQuantizedRowMin) return row;
  row.scale = largest / 127;
  const float inverse = 127 / largest;
  for (int64_t i = 0; i < inputs; ++i)
    row.codes[static_cast<size_t>(i)] = static_cast<int8_t>(std::nearbyint(x[i] * inverse));
  return row;
}

std::vector<double> RowAsRead(ActivationQuant quant, const PackedMatrix& weight, const double* x) {
  std::vector<double> row(x, x + weight.inputs());
  if (!QuantizesRows(quant, weight)) return row;
  const std::vector<float> floats(row.begin(), row.end());
  const QuantizedRow quantized = QuantizeRow(floats.data(), weight.inputs());
  for (size_t i = 0; i < row.size(); ++i) row[i] = double{quantized.scale} * quantized.codes[i];
  return row;
}

}  // namespace sluice
