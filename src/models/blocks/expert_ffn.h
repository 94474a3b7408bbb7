// The feed-forward half of a layer: a dense gated layer, or routed experts with a shared one.
#pragma once

#include <vector>

#include "kernels/moe/moe.h"
#include "kernels/moe/route.h"
#include "models/model.h"
#include "models/weight_places.h"

namespace sluice {

struct ExpertFfnConfig {
  int64_t hidden;
  int64_t dense_intermediate;  // of layers without experts
  int64_t experts, top_k, intermediate;
  int64_t shared_intermediate;  // 0: no shared expert
  ScoreFunction score;
  int n_group, topk_group;
  bool renormalize;
  float scaling;
  bool bias_required;  // otherwise expert_bias is loaded if the file has it
  Activation activation = Activation::kSilu;
  MoeBackend backend;
  Rounding rounding;
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
