// Lightning linear attention with its projections: Ling 2.5/2.6's token mixer in most layers.
#pragma once

#include <vector>

#include "formats/packed_matrix.h"
#include "kernels/linear/activation_quant.h"
#include "kernels/rope/rope.h"
#include "models/model.h"
#include "models/weight_places.h"

namespace sluice {

struct LinearAttentionConfig {
  int64_t hidden, heads, head_dim;
  int norm_groups;  // of the output norm: a count, not a width
  float eps;
  bool qk_norm;
  bool silu;  // on q, k and v after the projection
  bool rope;
  bool qkv_bias_required, dense_bias_required, bias_allowed;
  Rounding rounding;
  ActivationQuant activations = ActivationQuant::kNone;

  int64_t width() const { return heads * head_dim; }
  /// v stays a bfloat16 unless it is not rounded or an activation follows.
  DType value_dtype() const {
    return silu || rounding == Rounding::kNone ? DType::kF32 : DType::kBf16;
  }
};

struct LinearAttentionWeights {
  PackedMatrix qkvg;                  // [3 * width | width, hidden]: q, k, v, then the gate
  std::vector<float> qkvg_bias;       // empty, or [4 * width] with zeros for the gate
  std::vector<float> q_norm, k_norm;  // [head_dim]
  std::vector<float> g_norm;          // [width]
  PackedMatrix dense;                 // [hidden, width]
  std::vector<float> dense_bias;      // empty or [hidden]
  std::vector<float> decay;           // [heads], natural log; computed, not loaded
};

/// Adds this layer's rows; `prefix` is "model.layers.3.attention.".
void AddLinearAttentionRows(const LinearAttentionConfig& config, const std::string& prefix,
                            LinearAttentionWeights* weights, WeightPlaces& places);

/// exp-decay exponents of one layer: -slope[h] * (1 - (layer - offset) / (layers - 1) + 1e-5),
/// where slope is the ALiBi series. offset 1: the released modelling code; 0: some other engines.
std::vector<float> LightningDecay(int64_t heads, int64_t layer, int64_t layers, int64_t offset);

/// delta = dense( gate( group_norm( gla( rope( norm( q, k ) ), v ) ) ) ), x being the normed input.
/// `recurrent_layer` is this layer's index among the linear ones (its place in the pool).
struct LinearAttentionCall {
  const LinearAttentionConfig& config;
  const LinearAttentionWeights& weights;
  const Batch& batch;
  RecurrentPool& pool;
  int64_t recurrent_layer;
  int layer;  // for the debug tap
  RopeTable rope;
  View<const float, 2> x;  // [rows, hidden]
  View<float, 2> delta;    // [rows, hidden]
};
void LinearAttention(const LinearAttentionCall& call, Exec& exec);

/// Scratch bytes of a call with `rows` rows.
uint64_t LinearAttentionScratchBytes(const LinearAttentionConfig& config, int64_t rows);

}  // namespace sluice
