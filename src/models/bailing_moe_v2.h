// Ling / Ring 2.0: BailingMoeV2ForCausalLM (Ling-mini-2.0, Ling-flash-2.0, Ling-1T). Grouped-query
// attention with normed heads and partial rope, routed experts in groups with a shared one.
#pragma once

#include <vector>

#include "checkpoint/json_config.h"
#include "models/bailing_fields.h"
#include "models/blocks/grouped_attention.h"
#include "models/decoder.h"

namespace sluice {

/// config.json as the arithmetic needs it. Names in config.json: docs/models.md.
struct BailingMoeV2Config : DecoderConfig {
  int64_t rotary_dim;  // the rotated part of a head
  GroupedAttentionConfig attention;
  BailingFfn ffn;

  /// Reads and validates every field. Errors: file, field, value, what it contradicts.
  static Result<BailingMoeV2Config> Read(const JsonObject& json, Arithmetic arithmetic,
                                         MoeBackend backend);
};

class BailingMoeV2 final : public Decoder {
 public:
  explicit BailingMoeV2(BailingMoeV2Config config);

  uint64_t ScratchBytes(int64_t rows, int64_t output_rows, int lanes) const override;
  void Forward(const Batch& batch, const CachePools& pools, View<float, 2> hidden,
               Exec& exec) const override;
  /// Also MTP layers.
  bool Ignores(std::string_view tensor) const override;

 private:
  struct Layer {
    std::vector<float> norm_in, norm_post;
    GroupedAttentionWeights attention;
    ExpertFfnWeights ffn;
  };

  void AddLayerRows(int64_t index);

  const BailingMoeV2Config config_;
  const RopeFrequencies rope_;
  std::vector<Layer> layers_;
};

}  // namespace sluice
