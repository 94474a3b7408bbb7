// Multi-head latent attention with its projections: the full-attention layers of Ling 2.5/2.6.
#pragma once

#include <vector>

#include "formats/packed_matrix.h"
#include "kernels/linear/activation_quant.h"
#include "kernels/mla/mla.h"
#include "kernels/rope/rope.h"
#include "models/model.h"
#include "models/weight_places.h"

namespace sluice {

struct LatentAttentionConfig {
  int64_t hidden;
  int64_t query_latent;  // q_lora_rank; 0: one q_proj
  MlaShape shape;
  float latent_eps;  // of the latent norms
  float scale;       // of the softmax
  RopeLayout rope_layout;
  bool bias_allowed;  // biases of q_a, kv_a and dense are loaded if the file has them
  Rounding rounding;
  ActivationQuant activations = ActivationQuant::kNone;

  int64_t query_width() const { return shape.heads * (shape.nope + shape.rope); }
  int64_t key_width() const { return shape.latent + shape.rope; }
  /// Width of what the first product gives for queries.
  int64_t first_width() const { return query_latent > 0 ? query_latent : query_width(); }
  DType cache_dtype() const { return rounding == Rounding::kNone ? DType::kF32 : DType::kBf16; }
};

struct LatentAttentionWeights {
  PackedMatrix first;             // [q_a (or q) | kv_a, hidden] as one product
  std::vector<float> first_bias;  // empty or [first_width + key_width]
  std::vector<float> q_norm;      // [query_latent]
  PackedMatrix query;             // q_b, if there is a query latent
  std::vector<float> kv_norm;     // [latent]
  MlaWeights expand;              // kv_b
  PackedMatrix dense;             // [hidden, heads * value]
  std::vector<float> dense_bias;  // empty or [hidden]
};

/// Adds this layer's rows; `prefix` is "model.layers.7.attention.".
void AddLatentAttentionRows(const LatentAttentionConfig& config, const std::string& prefix,
                            LatentAttentionWeights* weights, WeightPlaces& places);

struct LatentAttentionCall {
  const LatentAttentionConfig& config;
  const LatentAttentionWeights& weights;
  const Batch& batch;
  KvPagePool& pool;
  int64_t kv_layer;  // this layer's index among the full-attention ones
  int layer;         // for the debug tap
  RopeTable rope;
  View<const float, 2> x;  // [rows, hidden], normed
  View<float, 2> delta;    // [rows, hidden]
};
void LatentAttention(const LatentAttentionCall& call, Exec& exec);

uint64_t LatentAttentionScratchBytes(const LatentAttentionConfig& config, int64_t rows, int lanes);

}  // namespace sluice
