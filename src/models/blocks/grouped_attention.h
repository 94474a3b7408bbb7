// Grouped-query attention with its projections: the token mixer of Ling 2.0, Qwen3 and Grok-2.
#pragma once

#include <string>
#include <vector>

#include "formats/packed_matrix.h"
#include "kernels/gqa/gqa.h"
#include "kernels/gqa/kv_layout.h"
#include "kernels/linear/activation_quant.h"
#include "kernels/rope/rope.h"
#include "models/model.h"
#include "models/weight_places.h"

namespace sluice {

struct GroupedAttentionConfig {
  int64_t hidden;
  GqaShape shape;
  float scale;                                // of the softmax
  float softcap = 0;                          // of the scores; 0: none
  int64_t temperature_length = 0;             // as in GqaArgs; 0: none
  bool qk_norm;                               // RMSNorm of each query and key head, before rope
  float eps;                                  // of these norms
  bool qkv_bias = false, dense_bias = false;  // required in the file
  Rounding rounding;
  ActivationQuant activations = ActivationQuant::kNone;

  int64_t query_width() const { return shape.heads * shape.head_dim; }
  int64_t key_width() const { return shape.kv_heads * shape.head_dim; }
  int64_t both_widths() const { return query_width() + 2 * key_width(); }
  DType cache_dtype() const { return rounding == Rounding::kNone ? DType::kF32 : DType::kBf16; }
  /// Bytes of a token's keys and values in one layer.
  int64_t cache_row_bytes() const {
    return KvPageBytes(cache_dtype(), shape.kv_heads, shape.head_dim) / kKvPageTokens;
  }
};

struct GroupedAttentionWeights {
  PackedMatrix qkv;                   // [query_width | key_width | key_width, hidden]
  std::vector<float> qkv_bias;        // empty or [both_widths]
  std::vector<float> q_norm, k_norm;  // [head_dim]
  PackedMatrix dense;                 // [hidden, query_width]
  std::vector<float> dense_bias;      // empty or [hidden]
};

/// What the checkpoint calls the tensors, after the layer's prefix and before ".weight" / ".bias".
struct GroupedAttentionNames {
  std::string fused;           // q, k and v as one matrix; empty: three
  std::string q, k, v;         // unless fused
  std::string q_norm, k_norm;  // with qk_norm
  std::string dense;
};

/// Adds this layer's rows; `prefix` is "model.layers.7.self_attn.".
void AddGroupedAttentionRows(const GroupedAttentionConfig& config,
                             const GroupedAttentionNames& names, const std::string& prefix,
                             GroupedAttentionWeights* weights, WeightPlaces& places);

struct GroupedAttentionCall {
  const GroupedAttentionConfig& config;
  const GroupedAttentionWeights& weights;
  const Batch& batch;
  KvPagePool& pool;
  int64_t kv_layer;        // this layer's index among those with pages
  int layer;               // for the debug tap
  RopeTable rope;          // its width is the rotated part of a head, in NeoX layout
  View<const float, 2> x;  // [rows, hidden], normed
  View<float, 2> delta;    // [rows, hidden]
};
/// delta = dense( attention( rope(norm(q)), rope(norm(k)), v ) ) with q | k | v = qkv(x).
/// Debug taps: "k" and "v" [rows, key_width], as they go to the pages.
void GroupedAttention(const GroupedAttentionCall& call, Exec& exec);

uint64_t GroupedAttentionScratchBytes(const GroupedAttentionConfig& config, int64_t rows,
                                      int lanes);

}  // namespace sluice
