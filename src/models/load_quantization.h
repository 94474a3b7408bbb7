// --quantization: weights that are stored as floats, quantised as they load.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "formats/weight_format.h"

namespace sluice {

struct QuantizationOptions {
  std::string format = "none";  // none, fp8, int8, int4
  int64_t group_size = 64;      // int4: inputs that share a scale: 32, 64, 128
  bool zero_points = false;     // int4: a zero point a group
};

/// The layout that the options ask for; bf16 for "none". Errors: kInvalidArgument naming the
/// option.
Result<WeightLayout> LayoutOf(const QuantizationOptions& options);

/// The refusal of a checkpoint that is quantised already; `found` says by what it shows.
Status AlreadyQuantized(const QuantizationOptions& options, std::string_view found);

}  // namespace sluice
