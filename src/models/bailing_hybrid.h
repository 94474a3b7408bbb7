// Ling / Ring 2.5 and 2.6: BailingMoeV2_5ForCausalLM. Lightning linear attention in most layers,
// multi-head latent attention in every G-th, routed experts behind both.
#pragma once

#include <vector>

#include "checkpoint/json_config.h"
#include "models/bailing_fields.h"
#include "models/blocks/latent_attention.h"
#include "models/blocks/linear_attention.h"
#include "models/decoder.h"

namespace sluice {

/// config.json as the arithmetic needs it. Names in config.json: docs/models.md.
struct BailingHybridConfig : DecoderConfig {
  int64_t layer_group;        // every layer_group-th layer is full attention
  int64_t decay_offset;       // of the layer index in the decay formula: 1 or 0
  int64_t linear_rotary_dim;  // 0: no rope in linear attention
  LinearAttentionConfig linear;
  LatentAttentionConfig full;
  BailingFfn ffn;

  /// Reads and validates every field. Errors: file, field, value, what it contradicts.
  static Result<BailingHybridConfig> Read(const JsonObject& json, Arithmetic arithmetic,
                                          MoeBackend backend);

  /// The last layer of each group, and every layer of an incomplete last group.
  bool IsFullAttention(int64_t layer) const {
    return (layer + 1) % layer_group == 0 || layer >= layers / layer_group * layer_group;
  }
  int64_t full_layers() const;
};

class BailingHybrid final : public Decoder {
 public:
  explicit BailingHybrid(BailingHybridConfig config);

  uint64_t ScratchBytes(int64_t rows, int64_t output_rows, int lanes) const override;
  void Forward(const Batch& batch, const CachePools& pools, View<float, 2> hidden,
               Exec& exec) const override;
  /// Also MTP layers and decay slopes.
  bool Ignores(std::string_view tensor) const override;

 private:
  struct Layer {
    std::vector<float> norm_in, norm_post;
    LinearAttentionWeights linear;
    LatentAttentionWeights full;
    ExpertFfnWeights ffn;
  };

  void AddLayerRows(int64_t index);

  const BailingHybridConfig config_;
  RopeFrequencies linear_rope_, full_rope_;
  std::vector<Layer> layers_;
};

}  // namespace sluice
