// Grok-2: Grok1ForCausalLM. Grouped-query attention with capped scores, experts beside a dense FFN,
// and norms at both ends of every block.
#pragma once

#include <vector>

#include "models/blocks/expert_ffn.h"
#include "models/blocks/grouped_attention.h"
#include "models/decoder.h"

namespace sluice {

/// config.json as the arithmetic needs it. Names in config.json: docs/models.md.
struct GrokConfig : DecoderConfig {
  float embedding_multiplier, logit_multiplier;
  float logit_softcap;   // 0: none
  int64_t rotary_width;  // of a head: all of it, or half
  GroupedAttentionConfig attention;
  ExpertFfnConfig ffn;  // its shared expert is the dense FFN beside the experts (residual_moe)

  /// Reads and validates every field. Errors: file, field, value, what it contradicts.
  static Result<GrokConfig> Read(const JsonObject& json, Arithmetic arithmetic, MoeBackend backend);
};

class Grok final : public Decoder {
 public:
  explicit Grok(GrokConfig config);

  uint64_t ScratchBytes(int64_t rows, int64_t output_rows, int lanes) const override;
  void Forward(const Batch& batch, const CachePools& pools, View<float, 2> hidden,
               Exec& exec) const override;

 private:
  struct Layer {
    std::vector<float> pre_attn_norm, post_attn_norm, pre_moe_norm, post_moe_norm;
    GroupedAttentionWeights attention;
    ExpertFfnWeights ffn;
  };

  static TokenEndsConfig EndsOf(const GrokConfig& config);
  void AddLayerRows(int64_t index);

  const GrokConfig config_;
  RopeFrequencies rope_;
  std::vector<Layer> layers_;
};

}  // namespace sluice
