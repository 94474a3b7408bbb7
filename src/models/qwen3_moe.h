// Qwen3-MoE: Qwen3MoeForCausalLM (Qwen3-30B-A3B, Qwen3-235B-A22B). Grouped-query attention with
// normed heads; experts chosen by a softmax over all of them, no shared one.
#pragma once

#include <vector>

#include "checkpoint/json_config.h"
#include "models/blocks/expert_ffn.h"
#include "models/blocks/grouped_attention.h"
#include "models/decoder.h"

namespace sluice {

/// config.json as the arithmetic needs it. Names in config.json: docs/models.md.
struct Qwen3MoeConfig : DecoderConfig {
  GroupedAttentionConfig attention;
  ExpertFfnConfig ffn;
  std::vector<bool> dense;  // per layer: a plain SwiGLU instead of experts

  /// Reads and validates every field. Errors: file, field, value, what it contradicts.
  static Result<Qwen3MoeConfig> Read(const JsonObject& json, Arithmetic arithmetic,
                                     MoeBackend backend);
};

class Qwen3Moe final : public Decoder {
 public:
  explicit Qwen3Moe(Qwen3MoeConfig config);

  uint64_t ScratchBytes(int64_t rows, int64_t output_rows, int lanes) const override;
  void Forward(const Batch& batch, const CachePools& pools, View<float, 2> hidden,
               Exec& exec) const override;

 private:
  struct Layer {
    std::vector<float> norm_in, norm_post;
    GroupedAttentionWeights attention;
    ExpertFfnWeights ffn;
  };

  void AddLayerRows(int64_t index);

  const Qwen3MoeConfig config_;
  const RopeFrequencies rope_;
  std::vector<Layer> layers_;
};

}  // namespace sluice
