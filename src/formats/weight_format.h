// How weights are held in memory: the formats, and what one of them needs to know beside a shape.
#pragma once

#include <cstdint>
#include <string>

namespace sluice {

/// A folder of src/formats each; kernels have one column a format in their tables.
enum class WeightFormat : uint8_t {
  kBf16,
  kFp8E4M3,  // OCP e4m3fn codes (fp8/e4m3.h) with fp32 scales
  kInt8,     // two's complement codes in [-127, 127] with an fp32 scale an output (int8/quantize.h)
  kInt4,     // codes q in [0, 15]: scale * (q - z), bfloat16 scales of groups (int4/quantize.h)
};
inline constexpr int kWeightFormats = 4;

/// Outputs (rows of the checkpoint's [out, in] matrix) that one panel holds.
inline constexpr int64_t kPanelOutputs = 32;
/// Inputs are padded with zeros to a multiple of this (the depth of one AMX tile pair).
inline constexpr int64_t kPanelInputs = 32;
/// Kernels cut rows at multiples of this, so a scale of more inputs than one must divide it.
inline constexpr int64_t kScaleInputsMax = 256;

/// A format and its scales. `scale_inputs`: inputs of an output that share a scale, a multiple of
/// kPanelInputs that divides kScaleInputsMax (128: block fp8), or 0: one scale for the whole row
/// (fp8 "channel", int8). bf16 has no scales and 0; int8 has 0; int4 has the group: 32, 64 or 128.
/// `zero_points`, of int4 only: every output and group has a code z that stands for zero; without
/// them it is 8.
struct WeightLayout {
  WeightFormat format = WeightFormat::kBf16;
  int64_t scale_inputs = 0;
  bool zero_points = false;
  bool operator==(const WeightLayout&) const = default;
};

/// "bf16", "fp8", "fp8, groups of 128", "int8", "int4, groups of 64 with zero points".
std::string LayoutName(WeightLayout layout);

}  // namespace sluice
