// Golden outputs: golden.json and golden.safetensors beside a checkpoint (tests/golden/README.md).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/checkpoint.h"

namespace sluice {

struct GoldenPrompt {
  std::vector<int32_t> ids;
  std::vector<int64_t> logit_positions;
  std::vector<int32_t> greedy;  // continuation in the mode asked for
};

/// One mode ("f64", "f32") of a golden folder.
class Golden {
 public:
  static Result<Golden> Open(const std::string& directory, const std::string& mode);

  const std::vector<GoldenPrompt>& prompts() const { return prompts_; }
  const std::vector<int32_t>& debug_prompt() const { return debug_prompt_; }
  /// A number of golden.json's "statistics", or `otherwise`.
  double Statistic(const std::string& name, double otherwise) const;
  bool Has(const std::string& name) const { return tensors_.Find(mode_ + "/" + name) != nullptr; }
  /// Values of "<mode>/<name>", row-major.
  std::vector<float> Tensor(const std::string& name) const;

 private:
  explicit Golden(Checkpoint tensors) : tensors_(std::move(tensors)) {}
  std::string mode_;
  Checkpoint tensors_;
  std::vector<GoldenPrompt> prompts_;
  std::vector<int32_t> debug_prompt_;
  std::vector<std::pair<std::string, double>> statistics_;
};

}  // namespace sluice
