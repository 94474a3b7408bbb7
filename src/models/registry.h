// Which architectures we can load, and loading one.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/team.h"
#include "checkpoint/json_config.h"
#include "checkpoint/weights.h"
#include "kernels/moe/moe.h"
#include "models/load_quantization.h"
#include "models/model.h"
#include "models/weight_places.h"

namespace sluice {

struct ModelLoadOptions {
  std::string model_path;            // a directory, or a shipped geometry's name
  std::string load_format = "auto";  // auto, safetensors, dummy
  std::string dtype = "auto";        // auto, bfloat16, float32
  std::string config_overrides;      // JSON object, may be empty
  QuantizationOptions quantization;  // of weights that are stored as floats
  uint64_t dummy_seed = 42;
  MoeBackend moe_backend = MoeBackend::kAuto;
  ActivationQuant activations = ActivationQuant::kNone;  // of products with integer weights
  bool show_progress = true;
};

/// Reads config.json, checks every tensor, allocates and loads with `team`.
/// Errors: kNotFound, kInvalidArgument (a field of config.json), kUnsupported (an architecture or a
/// feature, by name), kBadCheckpoint, kOutOfMemory (what is needed and what there is).
Result<std::unique_ptr<Model>> LoadModel(const ModelLoadOptions& options, Team& team);

/// What a model is, from its config.json and the headers of its files: no weights are read. Without
/// files that can be read, matrices are described as config.json announces them.
struct ModelDescription {
  ModelInfo info;
  CacheLayout cache;
  std::vector<WeightRow> tensors;  // as the checkpoint should have them; `place` is not callable
  StoredCounts stored;
  std::string config_path;
  std::string directory;  // empty for a geometry
  bool has_weights = false;
  IgnoreName ignore;  // tensors that are knowingly left aside
};
Result<ModelDescription> DescribeModel(const ModelLoadOptions& options);

/// Whether a checkpoint has exactly the tensors that the model wants. Errors: as CheckWeights.
inline Status CheckFiles(const ModelDescription& model, const Checkpoint& checkpoint) {
  return CheckWeights(checkpoint, model.tensors, model.ignore);
}

/// Names for config.json's "architectures", sorted.
std::vector<std::string> SupportedArchitectures();

}  // namespace sluice
