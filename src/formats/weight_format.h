// How weights are held in memory: the formats, and what one of them needs to know beside a shape.
#pragma once

#include <cstdint>

namespace sluice {

/// A folder of src/formats each; kernels have one column a format in their tables.
enum class WeightFormat : uint8_t {
  kBf16,
  kFp8E4M3,  // OCP e4m3fn codes (fp8/e4m3.h) with fp32 scales
};
inline constexpr int kWeightFormats = 2;

/// Outputs (rows of the checkpoint's [out, in] matrix) that one panel holds.
inline constexpr int64_t kPanelOutputs = 32;
/// Inputs are padded with zeros to a multiple of this (the depth of one AMX tile pair).
inline constexpr int64_t kPanelInputs = 32;
/// Kernels cut rows at multiples of this, so a scale of more inputs than one must divide it.
inline constexpr int64_t kScaleInputsMax = 256;

/// A format and its scales. `scale_inputs`: inputs of an output that share a scale, a multiple of
/// kPanelInputs that divides kScaleInputsMax (128: block fp8), or 0: one scale for the whole row
/// (fp8 "channel"). bf16 has no scales and 0.
struct WeightLayout {
  WeightFormat format = WeightFormat::kBf16;
  int64_t scale_inputs = 0;
  bool operator==(const WeightLayout&) const = default;
};

}  // namespace sluice
