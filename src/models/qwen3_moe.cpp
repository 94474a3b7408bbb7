#include "models/qwen3_moe.h"

#include <algorithm>

#include "models/qwen3_fields.h"

namespace sluice {
namespace {

void ReadExperts(FieldReader& read, Qwen3MoeConfig& c, MoeBackend backend) {
  ExpertFfnConfig& f = c.ffn;
  f.hidden = c.hidden;
  f.dense_intermediate = read.Int("intermediate_size", 1, kWidthMax, 6144);
  // Files that transformers 5 saved say num_local_experts instead.
  const std::string_view experts_key = read.Has("num_local_experts") && !read.Has("num_experts")
                                           ? "num_local_experts"
                                           : "num_experts";
  f.experts = read.Int(experts_key, 0, kCountMax, 128);
  f.top_k = read.Int("num_experts_per_tok", 1, 1024, 8);
  f.intermediate = read.Int("moe_intermediate_size", 1, kWidthMax, 768);
  f.score = ScoreFunction::kSoftmax;
  f.renormalize = read.Bool("norm_topk_prob", false);
  f.backend = backend;
  f.rounding = c.rounding;
  f.activations = c.activations;
  if (f.experts > 0) CheckExpertCounts(read, {experts_key, f.experts, f.top_k, c.layers});

  const int64_t step = read.Int("decoder_sparse_step", 1, kLayersMax, 1);
  c.dense.resize(static_cast<size_t>(c.layers));
  for (int64_t i = 0; i < c.layers; ++i) c.dense[i] = f.experts == 0 || (i + 1) % step != 0;
  for (const int64_t i : read.Ints("mlp_only_layers", 0, kLayersMax))
    if (i < c.layers) c.dense[i] = true;
}

}  // namespace

Result<Qwen3MoeConfig> Qwen3MoeConfig::Read(const JsonObject& json, Arithmetic arithmetic,
                                            MoeBackend backend) {
  FieldReader read(json);
  Qwen3MoeConfig c;
  ReadQwen3(read, arithmetic, "qwen3_moe", c);
  c.attention = ReadQwen3Attention(read, c);
  ReadExperts(read, c, backend);
  RETURN_IF_ERROR(read.status());
  return c;
}

Qwen3Moe::Qwen3Moe(Qwen3MoeConfig config)
    : Decoder(TokenEndsOf(config)),
      config_(std::move(config)),
      rope_(WithKeptRows(MakeRopeFrequencies(config_.attention.shape.head_dim, config_.rope_base,
                                             config_.yarn_or_null()),
                         config_.max_position, config_.rounding)),
      layers_(static_cast<size_t>(config_.layers)) {
  const Qwen3MoeConfig& c = config_;
  uint64_t idle = 0;
  BeginPlaces();
  for (int64_t i = 0; i < c.layers; ++i) {
    AddLayerRows(i);
    if (!c.dense[i]) idle += c.ffn.idle_parameters();
  }
  EndPlaces();
  Describe("Qwen3MoeForCausalLM", c,
           {.kv_layers = c.layers, .kv_row_bytes = c.attention.cache_row_bytes()}, idle);
}

void Qwen3Moe::AddLayerRows(int64_t i) {
  const Qwen3MoeConfig& c = config_;
  Layer& layer = layers_[i];
  const std::string prefix = "model.layers." + std::to_string(i) + ".";
  places_.Vector(prefix + "input_layernorm.weight", c.hidden, &layer.norm_in);
  places_.Vector(prefix + "post_attention_layernorm.weight", c.hidden, &layer.norm_post);
  AddGroupedAttentionRows(c.attention, kQwen3AttentionNames, prefix + "self_attn.",
                          &layer.attention, places_);
  if (c.dense[i])
    AddDenseFfnRows(c.ffn, prefix + "mlp.", &layer.ffn, places_);
  else
    AddExpertFfnRows(c.ffn, prefix + "mlp.", &layer.ffn, places_);
}

void Qwen3Moe::Forward(const Batch& batch, const CachePools& pools, View<float, 2> hidden,
                       Exec& exec) const {
  const Qwen3MoeConfig& c = config_;
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
    ExpertFfn({c.ffn, layer.ffn, c.dense[i], batch.tap, at, s.normed, s.delta}, exec);
    Tap(batch, "ffn_out", i, s.delta);
    AddAndNorm(s, i + 1 < c.layers ? layers_[i + 1].norm_in : final_norm(), exec);
    Tap(batch, "residual", i, s.residual);
  }
  End(batch, s, hidden, exec);
}

uint64_t Qwen3Moe::ScratchBytes(int64_t rows, int64_t, int lanes) const {
  const Qwen3MoeConfig& c = config_;
  return StreamBytes(rows) + RopeTableBytes(c.attention.shape.head_dim, rows) +
         std::max(GroupedAttentionScratchBytes(c.attention, rows, lanes),
                  ExpertFfnScratchBytes(c.ffn, rows));
}

}  // namespace sluice
