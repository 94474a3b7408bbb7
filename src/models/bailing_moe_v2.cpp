#include "models/bailing_moe_v2.h"

#include <algorithm>
#include <cmath>

namespace sluice {
namespace {

constexpr const char* kArchitecture = "BailingMoeV2ForCausalLM";

const GroupedAttentionNames kAttentionNames = {.fused = "query_key_value",
                                               .q = {},
                                               .k = {},
                                               .v = {},
                                               .q_norm = "query_layernorm",
                                               .k_norm = "key_layernorm",
                                               .dense = "dense"};

void ReadAttention(FieldReader& read, BailingMoeV2Config& c) {
  GroupedAttentionConfig& a = c.attention;
  const HeadCounts heads = ReadHeads(read, c.hidden, 128);
  a.hidden = c.hidden;
  a.shape = {heads.heads, heads.kv_heads, heads.head_dim};
  a.scale = 1 / std::sqrt(static_cast<float>(heads.head_dim));
  a.qk_norm = read.Bool("use_qk_norm", true);
  a.eps = c.eps;
  // The publisher's code reads use_qkv_bias, another one attention_bias.
  a.qkv_bias = read.Bool("use_qkv_bias", read.Bool("attention_bias", false));
  a.dense_bias = read.Bool("use_bias", false);
  a.rounding = c.rounding;
  a.activations = c.activations;
  // The opposite precedence of Ling 2.5.
  c.rotary_dim = ReadRotaryWidth(read, heads.head_dim, {"partial_rotary_factor", "rotary_dim"},
                                 heads.head_dim);
}

}  // namespace

Result<BailingMoeV2Config> BailingMoeV2Config::Read(const JsonObject& json, Arithmetic arithmetic,
                                                    MoeBackend backend) {
  FieldReader read(json);
  BailingMoeV2Config c;
  ReadDecoder(read, arithmetic, BailingDefaults("bailing_moe"), c);
  RefuseOther(read, "hidden_act", "silu");
  RefuseFalse(read, "use_rmsnorm");
  read.Int("num_nextn_predict_layers", 0, 64, 0);  // MTP layers are left aside
  ReadAttention(read, c);
  c.ffn = ReadBailingFfn(read, c, backend);
  c.ffn.renormalize = read.Bool("norm_topk_prob", true);
  RETURN_IF_ERROR(read.status());
  return c;
}

BailingMoeV2::BailingMoeV2(BailingMoeV2Config config)
    : Decoder(TokenEndsOf(config, kBailingEmbedding)),
      config_(std::move(config)),
      rope_(WithKeptRows(
          MakeRopeFrequencies(config_.rotary_dim, config_.rope_base, config_.yarn_or_null()),
          config_.max_position, config_.rounding)),
      layers_(static_cast<size_t>(config_.layers)) {
  const BailingMoeV2Config& c = config_;
  uint64_t idle = 0;
  BeginPlaces();
  for (int64_t i = 0; i < c.layers; ++i) {
    AddLayerRows(i);
    if (!c.ffn.IsDense(i)) idle += c.ffn.idle_parameters();
  }
  EndPlaces();
  Describe(kArchitecture, c, {.kv_layers = c.layers, .kv_row_bytes = c.attention.cache_row_bytes()},
           idle);
}

void BailingMoeV2::AddLayerRows(int64_t i) {
  const BailingMoeV2Config& c = config_;
  Layer& layer = layers_[i];
  const std::string prefix = "model.layers." + std::to_string(i) + ".";
  places_.Vector(prefix + "input_layernorm.weight", c.hidden, &layer.norm_in);
  places_.Vector(prefix + "post_attention_layernorm.weight", c.hidden, &layer.norm_post);
  AddGroupedAttentionRows(c.attention, kAttentionNames, prefix + "attention.", &layer.attention,
                          places_);
  if (c.ffn.IsDense(i))
    AddDenseFfnRows(c.ffn, prefix + "mlp.", &layer.ffn, places_);
  else
    AddExpertFfnRows(c.ffn, prefix + "mlp.", &layer.ffn, places_);
}

bool BailingMoeV2::Ignores(std::string_view tensor) const {
  return Decoder::Ignores(tensor) || LayerOfTensor(tensor) >= config_.layers;
}

void BailingMoeV2::Forward(const Batch& batch, const CachePools& pools, View<float, 2> hidden,
                           Exec& exec) const {
  const BailingMoeV2Config& c = config_;
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
    ExpertFfn({c.ffn, layer.ffn, c.ffn.IsDense(i), batch.tap, at, s.normed, s.delta}, exec);
    Tap(batch, "ffn_out", i, s.delta);
    AddAndNorm(s, i + 1 < c.layers ? layers_[i + 1].norm_in : final_norm(), exec);
    Tap(batch, "residual", i, s.residual);
  }
  End(batch, s, hidden, exec);
}

uint64_t BailingMoeV2::ScratchBytes(int64_t rows, int64_t, int lanes) const {
  const BailingMoeV2Config& c = config_;
  return StreamBytes(rows) + RopeTableBytes(c.rotary_dim, rows) +
         std::max(GroupedAttentionScratchBytes(c.attention, rows, lanes),
                  ExpertFfnScratchBytes(c.ffn, rows));
}

}  // namespace sluice
