// Ling / Ring 2.5 and 2.6: BailingMoeV2_5ForCausalLM. Lightning linear attention in most layers,
// multi-head latent attention in every G-th, routed experts behind both.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/json_config.h"
#include "models/blocks/expert_ffn.h"
#include "models/blocks/latent_attention.h"
#include "models/blocks/linear_attention.h"
#include "models/model.h"
#include "models/registry.h"

namespace sluice {

/// config.json as the arithmetic needs it. Names in config.json: docs/models.md.
struct BailingHybridConfig {
  int64_t vocab_size, hidden, layers, max_position;
  int64_t layer_group;   // every layer_group-th layer is full attention
  int64_t first_dense;   // layers below it have a dense FFN
  int64_t decay_offset;  // of the layer index in the decay formula: 1 or 0
  float eps;
  bool tied;        // lm_head is the embedding
  bool one_expert;  // num_experts == 1: dense FFN everywhere
  double rope_base;
  std::optional<YarnParams> yarn;
  int64_t linear_rotary_dim;  // 0: no rope in linear attention
  std::vector<int32_t> eos_token_ids;
  std::string model_type;
  LinearAttentionConfig linear;
  LatentAttentionConfig full;
  ExpertFfnConfig ffn;

  /// Reads and validates every field. Errors: file, field, value, what it contradicts.
  static Result<BailingHybridConfig> Read(const JsonObject& json, Rounding rounding,
                                          MoeBackend backend);

  /// The last layer of each group, and every layer of an incomplete last group.
  bool IsFullAttention(int64_t layer) const {
    return (layer + 1) % layer_group == 0 || layer >= layers / layer_group * layer_group;
  }
  bool IsDense(int64_t layer) const { return layer < first_dense || one_expert; }
  int64_t full_layers() const;
};

class BailingHybrid final : public Model {
 public:
  explicit BailingHybrid(BailingHybridConfig config);
  BailingHybrid(const BailingHybrid&) = delete;

  const ModelInfo& info() const override { return info_; }
  const CacheLayout& cache_layout() const override { return cache_; }
  uint64_t ScratchBytes(int64_t rows, int64_t output_rows, int lanes) const override;
  void Forward(const Batch& batch, const CachePools& pools, View<float, 2> hidden,
               Exec& exec) const override;
  void Logits(View<const float, 2> hidden, View<float, 2> logits, Exec& exec) const override;

  /// The weight table and the allocations before it. Valid while this object lives.
  WeightPlaces& places() { return places_; }
  /// Tensors that checkpoints carry and we leave aside: MTP layers, rope tables, decay slopes.
  bool Ignores(std::string_view tensor) const;

 private:
  struct Layer {
    std::vector<float> norm_in, norm_post;
    LinearAttentionWeights linear;
    LatentAttentionWeights full;
    ExpertFfnWeights ffn;
  };

  void BuildPlaces();

  const BailingHybridConfig config_;
  ModelInfo info_;
  CacheLayout cache_;
  WeightPlaces places_;
  RopeFrequencies linear_rope_, full_rope_;
  Buffer embedding_;  // [vocab_size, hidden] bf16
  std::vector<Layer> layers_;
  std::vector<float> norm_;
  PackedMatrix head_;
};

}  // namespace sluice
