// What families read from config.json under the same keys, checked the same way.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/json_config.h"
#include "kernels/linear/activation_quant.h"
#include "kernels/rope/rope.h"
#include "tensor/exec.h"

namespace sluice {

// Bounds that keep every size computed from config.json, summed over all layers, below 2^62 bytes,
// and the weight table of the oddest config.json within some hundred megabytes.
inline constexpr int64_t kWidthMax = 1 << 20;
inline constexpr int64_t kHeadDimMax = 1 << 12;
inline constexpr int64_t kHeadsMax = 1 << 12;
inline constexpr int64_t kLayersMax = 1 << 12;
inline constexpr int64_t kCountMax = 1 << 16;
inline constexpr int64_t kAllExpertsMax = 1
                                          << 17;  // over all layers; the largest release has 20,000
inline constexpr int64_t kVocabMax = 1 << 24;
inline constexpr int64_t kPositionMax = 1 << 30;

/// What the launch says about a model's arithmetic, not its config.json.
struct Arithmetic {
  Rounding rounding;
  ActivationQuant activations = ActivationQuant::kNone;  // of products with integer weights
};

/// What any decoder's config.json says.
struct DecoderConfig {
  std::string model_type;
  int64_t vocab_size, hidden, layers, max_position;
  float eps;  // of the RMSNorms
  bool tied;  // lm_head is the embedding
  double rope_base;
  std::optional<YarnParams> yarn;
  std::vector<int32_t> eos_token_ids;
  Rounding rounding;
  ActivationQuant activations;

  const YarnParams* yarn_or_null() const { return yarn ? &*yarn : nullptr; }
};

/// Where families differ when a key is absent.
struct DecoderDefaults {
  std::string model_type;
  int64_t max_position = 32768;
  double eps = 1e-6;
  double rope_base = 10000;
  std::optional<int32_t> eos_token_id = std::nullopt;  // if the vocabulary has it
};

/// vocab_size, hidden_size, num_hidden_layers, max_position_embeddings, rms_norm_eps,
/// tie_word_embeddings, rope_theta, rope_scaling (or both in rope_parameters), the special ids.
/// Every getter below keeps its errors in `read`.
void ReadDecoder(FieldReader& read, Arithmetic arithmetic, const DecoderDefaults& defaults,
                 DecoderConfig& config);

/// A string field of which we build one value only; absent means that value.
void RefuseOther(FieldReader& read, std::string_view key, std::string_view only);
/// A switch of which we build one position only; absent means that position.
void RefuseTrue(FieldReader& read, std::string_view key);
void RefuseFalse(FieldReader& read, std::string_view key);

struct HeadCounts {
  int64_t heads, kv_heads, head_dim;
};
/// num_attention_heads, num_key_value_heads (default: as many), head_dim (default: `head_dim`, or
/// hidden / heads where that is 0 or the file says null).
HeadCounts ReadHeads(FieldReader& read, int64_t hidden, int64_t head_dim);

/// The rotated part of a head: of `keys`, "partial_rotary_factor" (a share of the head) and
/// "rotary_dim" (a width) in the family's order, the first one present decides, else `otherwise`.
int64_t ReadRotaryWidth(FieldReader& read, int64_t head_dim,
                        std::initializer_list<std::string_view> keys, int64_t otherwise);

/// What must hold between the fields of routed experts; the keys' names are the family's.
struct ExpertCounts {
  std::string_view experts_key;
  int64_t experts, top_k, layers;
};
void CheckExpertCounts(FieldReader& read, const ExpertCounts& counts);

}  // namespace sluice
