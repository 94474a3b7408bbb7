// Keys of config.json that Ling 2.0 and Ling 2.5 / 2.6 share beyond what every family reads.
#pragma once

#include "models/blocks/expert_ffn.h"
#include "models/config_fields.h"

namespace sluice {

/// Defaults of the keys that every family has.
DecoderDefaults BailingDefaults(std::string model_type);

/// What these checkpoints call the embedding.
inline constexpr const char* kBailingEmbedding = "model.word_embeddings.weight";

/// Routed experts behind first_k_dense_replace dense layers; one expert means dense everywhere.
/// `renormalize` is left to the family.
struct BailingFfn : ExpertFfnConfig {
  int64_t first_dense;  // layers below it are dense
  bool IsDense(int64_t layer) const { return layer < first_dense || experts == 1; }
};
BailingFfn ReadBailingFfn(FieldReader& read, const DecoderConfig& decoder, MoeBackend backend);

}  // namespace sluice
