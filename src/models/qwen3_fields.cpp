#include "models/qwen3_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace sluice {
namespace {

// Newer files list each layer's kind; a sliding window is one that this build lacks.
void CheckLayerTypes(FieldReader& read, int64_t layers) {
  if (!read.Has("layer_types")) return;
  const std::vector<std::string> kinds = read.Strings("layer_types");
  for (const std::string& kind : kinds)
    if (kind != "full_attention") {
      read.Contradiction("layer_types", fmt::format("it has {}, this build supports only "
                                                    "\"full_attention\"",
                                                    Quoted(kind)));
      return;
    }
  if (static_cast<int64_t>(kinds.size()) != layers)
    read.Contradiction("layer_types", fmt::format("num_hidden_layers is {}", layers));
}

}  // namespace

const GroupedAttentionNames kQwen3AttentionNames = {.fused = {},
                                                    .q = "q_proj",
                                                    .k = "k_proj",
                                                    .v = "v_proj",
                                                    .q_norm = "q_norm",
                                                    .k_norm = "k_norm",
                                                    .dense = "o_proj"};

void ReadQwen3(FieldReader& read, Arithmetic arithmetic, std::string model_type, DecoderConfig& c) {
  ReadDecoder(read, arithmetic, {.model_type = std::move(model_type), .rope_base = 1e6}, c);
  RefuseOther(read, "hidden_act", "silu");
  RefuseTrue(read, "use_sliding_window");  // sliding_window alone has no effect
  if (read.status().ok()) CheckLayerTypes(read, c.layers);
}

GroupedAttentionConfig ReadQwen3Attention(FieldReader& read, const DecoderConfig& c) {
  GroupedAttentionConfig a;
  const HeadCounts heads = ReadHeads(read, c.hidden, 0);
  a.hidden = c.hidden;
  a.shape = {heads.heads, heads.kv_heads, heads.head_dim};
  a.scale = 1 / std::sqrt(static_cast<float>(heads.head_dim));
  a.qk_norm = true;
  a.eps = c.eps;
  a.qkv_bias = a.dense_bias = read.Bool("attention_bias", false);
  a.rounding = c.rounding;
  a.activations = c.activations;
  if (heads.head_dim % 2 != 0)
    read.Contradiction("head_dim", "rope rotates the whole head, allowed are even widths");
  return a;
}

}  // namespace sluice
