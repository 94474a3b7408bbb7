// `sluice inspect`: what a model is and what memory it needs, without loading it.
#pragma once

#include <cstdint>
#include <string>

#include "models/load_quantization.h"

namespace sluice {

struct InspectOptions {
  std::string model_path;
  std::string dtype = "auto";
  std::string config_overrides;
  QuantizationOptions quantization;
  int64_t context = 0;       // tokens a request; 0: the model's maximum
  int64_t concurrency = 1;   // requests at a time
  bool all_tensors = false;  // every tensor instead of one line a pattern
};

/// Prints architecture, tensors with their bytes, whether the files agree, and the memory table.
/// Exit status: 0; 2 if the model cannot be read or the files do not fit it.
int RunInspect(const InspectOptions& options);

}  // namespace sluice
