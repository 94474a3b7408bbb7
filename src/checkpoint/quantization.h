// What config.json says about quantised weights: "quantization_config", or "compression_config" as
// some exporters call it. The tensors themselves decide what is loaded how
// (models/weight_places.h); this says which scheme to expect, refuses what nothing here can load,
// and names the modules that the publisher says were left alone.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "checkpoint/json_config.h"
#include "checkpoint/module_names.h"

namespace sluice {

/// Weights that share a scale: a row of the [out, in] matrix, a block of it, or all of them.
enum class ScaleScheme : uint8_t { kChannel, kBlock, kTensor };

/// Rows and columns of a block.
constexpr int64_t kScaleBlock = 128;

/// fp8 (e4m3) weights. Activations stay as they are (W8A16), whatever the file says about
/// quantising them: that is the more accurate way, and static activation scales are not needed.
struct QuantizationConfig {
  ScaleScheme scheme = ScaleScheme::kChannel;
  std::string scale_suffix = "_scale";  // of a tensor "X.weight": "X.weight_scale"
  bool all_linear = true;  // every linear layer is meant, and `targets` is not looked at
  ModuleNames targets;
  ModuleNames ignored;
  bool static_activations = false;  // the file carries "X.input_scale" tensors

  /// Whether the config says that the matrix "X.weight" is quantised.
  bool Quantizes(std::string_view tensor) const;

  bool operator==(const QuantizationConfig&) const = default;

  /// None if config.json has neither key; both must say the same. Errors: kInvalidArgument or
  /// kMissingParameter with field, value found and values allowed:
  ///   quant_method compressed-tensors: format float-quantized; config_groups with weights of 8
  ///   bits,
  ///     type float, symmetric, not dynamic, strategy channel, block ([128, 128]) or tensor;
  ///   quant_method fp8: weight_block_size [128, 128], fmt e4m3.
  static Result<std::optional<QuantizationConfig>> Read(const JsonObject& config);
};

}  // namespace sluice
