// The feed-forward half of a layer: a dense gated layer, or routed experts with or without a shared
// one.
#pragma once

#include <vector>

#include "kernels/moe/moe.h"
#include "kernels/moe/route.h"
#include "models/model.h"
#include "models/weight_places.h"

namespace sluice {

/// What the checkpoint calls the tensors of a layer, after its prefix.
struct ExpertFfnNames {
  std::string router = "gate.weight";
  std::vector<std::string> router_bias;  // the tensor's spellings; empty: the family has none
  std::string experts = "experts.";      // then the expert's number, "." and a name of `expert`
  ExpertNames expert;
  std::string shared = "shared_experts.";
  ExpertNames dense;  // of the shared expert and of layers without experts
};

struct ExpertFfnConfig {
  ExpertFfnNames names;
  int64_t hidden;
  int64_t dense_intermediate = 0;  // of layers without experts
  int64_t experts = 0, top_k = 0, intermediate = 0;
  int64_t shared_intermediate = 0;  // 0: no shared expert
  ScoreFunction score = ScoreFunction::kSoftmax;
  int n_group = 0, topk_group = 0;  // 0: no groups
  bool renormalize = false;
  float router_softcap = 0;  // 0: none
  float scaling = 1;
  bool bias_required = false;  // otherwise a router bias is loaded if the file has it
  Activation activation = Activation::kSilu;
  float output_divisor =
      1;  // of layers with experts: y = round( round(routed + shared) / divisor )
  MoeBackend backend = MoeBackend::kAuto;
  Rounding rounding;
  ActivationQuant activations = ActivationQuant::kNone;

  /// Parameters of one layer's experts that a token does not touch.
  uint64_t idle_parameters() const {
    return static_cast<uint64_t>((experts - top_k) * 3 * hidden * intermediate);
  }
};

struct ExpertFfnWeights {
  std::vector<float> gate;  // [experts, hidden], fp32
  std::vector<float> bias;  // empty or [experts]
  std::vector<ExpertWeights> experts;
  ExpertWeights shared;  // or the dense layer's only expert
};

/// Adds the rows of one layer; `prefix` is "model.layers.3.mlp.".
void AddDenseFfnRows(const ExpertFfnConfig& config, const std::string& prefix,
                     ExpertFfnWeights* weights, WeightPlaces& places);
void AddExpertFfnRows(const ExpertFfnConfig& config, const std::string& prefix,
                      ExpertFfnWeights* weights, WeightPlaces& places);

struct ExpertFfnCall {
  const ExpertFfnConfig& config;
  const ExpertFfnWeights& weights;
  bool dense;
  const DebugTap* tap;
  int layer;
  View<const float, 2> x;  // [rows, hidden], normed
  View<float, 2> delta;    // [rows, hidden]
};
void ExpertFfn(const ExpertFfnCall& call, Exec& exec);

uint64_t ExpertFfnScratchBytes(const ExpertFfnConfig& config, int64_t rows);

}  // namespace sluice
