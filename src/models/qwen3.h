// Qwen3: Qwen3ForCausalLM, the dense models. Grouped-query attention with normed heads, SwiGLU.
#pragma once

#include <vector>

#include "checkpoint/json_config.h"
#include "models/blocks/expert_ffn.h"
#include "models/blocks/grouped_attention.h"
#include "models/decoder.h"

namespace sluice {

/// config.json as the arithmetic needs it. Names in config.json: docs/models.md.
struct Qwen3Config : DecoderConfig {
  GroupedAttentionConfig attention;
  ExpertFfnConfig ffn;  // its dense half

  /// Reads and validates every field. Errors: file, field, value, what it contradicts.
  static Result<Qwen3Config> Read(const JsonObject& json, Arithmetic arithmetic,
                                  MoeBackend backend);
};

class Qwen3 final : public Decoder {
 public:
  explicit Qwen3(Qwen3Config config);

  uint64_t ScratchBytes(int64_t rows, int64_t output_rows, int lanes) const override;
  void Forward(const Batch& batch, const CachePools& pools, View<float, 2> hidden,
               Exec& exec) const override;

 private:
  struct Layer {
    std::vector<float> norm_in, norm_post;
    GroupedAttentionWeights attention;
    ExpertFfnWeights ffn;
  };

  const Qwen3Config config_;
  const RopeFrequencies rope_;
  std::vector<Layer> layers_;
};

}  // namespace sluice
