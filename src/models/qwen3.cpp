#include "models/qwen3.h"

#include <algorithm>

#include "models/qwen3_fields.h"

namespace sluice {

Result<Qwen3Config> Qwen3Config::Read(const JsonObject& json, Arithmetic arithmetic, MoeBackend) {
  FieldReader read(json);
  Qwen3Config c;
  ReadQwen3(read, arithmetic, "qwen3", c);
  c.attention = ReadQwen3Attention(read, c);
  c.ffn.hidden = c.hidden;
  c.ffn.dense_intermediate = read.Int("intermediate_size", 1, kWidthMax);
  c.ffn.rounding = c.rounding;
  c.ffn.activations = c.activations;
  RETURN_IF_ERROR(read.status());
  return c;
}

Qwen3::Qwen3(Qwen3Config config)
    : Decoder(TokenEndsOf(config)),
      config_(std::move(config)),
      rope_(WithKeptRows(MakeRopeFrequencies(config_.attention.shape.head_dim, config_.rope_base,
                                             config_.yarn_or_null()),
                         config_.max_position, config_.rounding)),
      layers_(static_cast<size_t>(config_.layers)) {
  const Qwen3Config& c = config_;
  BeginPlaces();
  for (int64_t i = 0; i < c.layers; ++i) {
    Layer& layer = layers_[i];
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    places_.Vector(prefix + "input_layernorm.weight", c.hidden, &layer.norm_in);
    places_.Vector(prefix + "post_attention_layernorm.weight", c.hidden, &layer.norm_post);
    AddGroupedAttentionRows(c.attention, kQwen3AttentionNames, prefix + "self_attn.",
                            &layer.attention, places_);
    AddDenseFfnRows(c.ffn, prefix + "mlp.", &layer.ffn, places_);
  }
  EndPlaces();
  Describe("Qwen3ForCausalLM", c,
           {.kv_layers = c.layers, .kv_row_bytes = c.attention.cache_row_bytes()}, 0);
}

void Qwen3::Forward(const Batch& batch, const CachePools& pools, View<float, 2> hidden,
                    Exec& exec) const {
  const Qwen3Config& c = config_;
  Arena::Scope scope(exec.scratch);
  const RopeTable rope = MakeRopeTable(rope_, batch.positions, c.rounding, exec);
  const Stream s = Begin(batch, layers_[0].norm_in, exec);
  for (int64_t i = 0; i < c.layers; ++i) {
    const Layer& layer = layers_[i];
    const int at = static_cast<int>(i);
    GroupedAttention(
        {c.attention, layer.attention, batch, *pools.kv, i, at, rope, s.normed, s.delta}, exec);
    Tap(batch, "attn_out", i, s.delta);
    AddAndNorm(s, layer.norm_post, exec);
    ExpertFfn({c.ffn, layer.ffn, true, batch.tap, at, s.normed, s.delta}, exec);
    Tap(batch, "ffn_out", i, s.delta);
    AddAndNorm(s, i + 1 < c.layers ? layers_[i + 1].norm_in : final_norm(), exec);
    Tap(batch, "residual", i, s.residual);
  }
  End(batch, s, hidden, exec);
}

uint64_t Qwen3::ScratchBytes(int64_t rows, int64_t, int lanes) const {
  const Qwen3Config& c = config_;
  return StreamBytes(rows) + RopeTableBytes(c.attention.shape.head_dim, rows) +
         std::max(GroupedAttentionScratchBytes(c.attention, rows, lanes),
                  ExpertFfnScratchBytes(c.ffn, rows));
}

}  // namespace sluice
