// How a checkpoint stores one weight matrix: floats, or fp8 codes with a scale tensor beside them.
// The tensors decide: "X.weight" is fp8 iff its dtype is F8_E4M3, and then "X.weight_scale" or
// "X.weight_scale_inv" says by its shape what the scales cover. Despite the second name they
// multiply: W[o, i] = code[o, i] * scale.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "checkpoint/weights.h"
#include "formats/weight_format.h"
#include "models/matrix_sink.h"

namespace sluice {

struct StoredMatrix {
  bool fp8 = false;
  ScaleScheme scheme = ScaleScheme::kChannel;  // of fp8

  /// The layout that holds it without a change.
  WeightLayout layout() const {
    if (!fp8) return {};
    return {WeightFormat::kFp8E4M3, scheme == ScaleScheme::kBlock ? kScaleBlock : 0};
  }
};

/// Looks for the tensor of `row` (its shape is [outputs, inputs]) and, if that is fp8, for its
/// scale. `scale_row` becomes the row of the scale, without a place: also if there is none, so that
/// a report names it.
StoredMatrix FindStored(const WeightSource& source, const std::optional<QuantizationConfig>& config,
                        const WeightRow& row, WeightRow* scale_row);

/// Makes `row` and (of fp8) `scale_row` place their values into `sink`. `held` is the layout of the
/// memory behind it: what is stored otherwise is dequantised in fp32 as it is loaded. Scales must
/// be finite and not negative; one of zero must cover codes of zero only.
void PlaceStored(const StoredMatrix& stored, WeightLayout held,
                 const std::shared_ptr<const MatrixSink>& sink, WeightRow* row,
                 WeightRow* scale_row);

/// "X.weight" of "X.weight_scale" and "X.weight_scale_inv"; empty for other names.
std::string_view MatrixOfScale(std::string_view tensor);

}  // namespace sluice
