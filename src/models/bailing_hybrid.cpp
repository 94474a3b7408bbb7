#include "models/bailing_hybrid.h"

#include <algorithm>
#include <cmath>

#include "kernels/gla/gla.h"

namespace sluice {
namespace {

constexpr const char* kArchitecture = "BailingMoeV2_5ForCausalLM";

// An explicit list of layer kinds must say what layer_group_size says.
void CheckLayerKinds(FieldReader& read, const BailingHybridConfig& c) {
  if (!read.Has("layers_block_type")) return;
  const std::vector<std::string> kinds = read.Strings("layers_block_type");
  bool agrees = static_cast<int64_t>(kinds.size()) == c.layers;
  for (int64_t i = 0; agrees && i < c.layers; ++i) {
    const bool full = kinds[i] == "attention" || kinds[i] == "full_attention";
    agrees = (full || kinds[i] == "linear_attention") && full == c.IsFullAttention(i);
  }
  if (!agrees)
    read.Contradiction(
        "layers_block_type",
        fmt::format("it contradicts layer_group_size {} with {} layers", c.layer_group, c.layers));
}

void ReadLinear(FieldReader& read, BailingHybridConfig& c) {
  LinearAttentionConfig& l = c.linear;
  // Neither attention kind has other key heads, but a number that cannot be is a wrong file.
  const HeadCounts heads = ReadHeads(read, c.hidden, 128);
  l.hidden = c.hidden;
  l.heads = heads.heads;
  l.head_dim = heads.head_dim;
  l.norm_groups = static_cast<int>(read.Int("group_norm_size", 1, kCountMax));
  if (l.width() % l.norm_groups != 0)
    read.Contradiction("group_norm_size",
                       fmt::format("it must divide heads * head_dim = {}", l.width()));
  l.eps = c.eps;
  l.qk_norm = read.Bool("use_qk_norm", true);
  l.silu = read.Bool("use_linear_silu", read.Bool("linear_silu", false));
  l.rope = read.Bool("linear_rope", true);
  l.qkv_bias_required = read.Bool("use_qkv_bias", false);
  l.dense_bias_required = read.Bool("use_bias", false);
  l.bias_allowed = l.qkv_bias_required || l.dense_bias_required;
  l.rounding = c.rounding;
  l.activations = c.activations;
  c.linear_rotary_dim =
      l.rope ? ReadRotaryWidth(read, l.head_dim, {"rotary_dim", "partial_rotary_factor"},
                               l.head_dim / 2)
             : 0;
}

void ReadFull(FieldReader& read, BailingHybridConfig& c) {
  LatentAttentionConfig& f = c.full;
  f.hidden = c.hidden;
  f.query_latent = read.Int("q_lora_rank", 1, kWidthMax, 0);
  f.shape.heads = c.linear.heads;
  f.shape.latent = read.Int("kv_lora_rank", 1, kWidthMax, 512);
  f.shape.nope = read.Int("qk_nope_head_dim", 1, 4096, 128);
  f.shape.rope = read.Int("qk_rope_head_dim", 2, 4096, 64);
  f.shape.value = read.Int("v_head_dim", 1, 4096, 128);
  if (f.shape.rope % 2 != 0) read.Contradiction("qk_rope_head_dim", "allowed are even widths");
  f.latent_eps = 1e-6f;  // both published implementations build these norms with their default
  f.rope_layout = read.Bool("rope_interleave", true) ? RopeLayout::kInterleaved : RopeLayout::kNeox;
  f.bias_allowed = c.linear.qkv_bias_required;
  f.rounding = c.rounding;
  f.activations = c.activations;
  double scale = 1 / std::sqrt(static_cast<double>(f.shape.nope + f.shape.rope));
  if (c.yarn && c.yarn->mscale_all_dim != 0)
    scale *= std::pow(YarnMscale(c.yarn->factor, c.yarn->mscale_all_dim), 2);
  f.scale = static_cast<float>(scale);
}

}  // namespace

Result<BailingHybridConfig> BailingHybridConfig::Read(const JsonObject& json, Arithmetic arithmetic,
                                                      MoeBackend backend) {
  FieldReader read(json);
  BailingHybridConfig c;
  ReadDecoder(read, arithmetic, BailingDefaults("bailing_hybrid"), c);
  c.layer_group = read.Int("layer_group_size", 1, kLayersMax);
  c.decay_offset = read.Int("linear_decay_layer_offset", 0, 1, 1);
  read.Int("num_nextn_predict_layers", 0, 64, 0);  // MTP layers are left aside
  RefuseOther(read, "hidden_act", "silu");
  RefuseOther(read, "full_attention_type", "mla");
  ReadLinear(read, c);
  ReadFull(read, c);
  c.ffn = ReadBailingFfn(read, c, backend);
  c.ffn.renormalize = true;  // this family always does, whatever norm_topk_prob says
  if (read.status().ok()) CheckLayerKinds(read, c);
  RETURN_IF_ERROR(read.status());
  return c;
}

int64_t BailingHybridConfig::full_layers() const {
  int64_t count = 0;
  for (int64_t i = 0; i < layers; ++i) count += IsFullAttention(i);
  return count;
}

BailingHybrid::BailingHybrid(BailingHybridConfig config)
    : Decoder(TokenEndsOf(config, kBailingEmbedding)),
      config_(std::move(config)),
      layers_(static_cast<size_t>(config_.layers)) {
  const BailingHybridConfig& c = config_;
  const auto rope = [&](int64_t width, double base) {
    return WithKeptRows(MakeRopeFrequencies(width, base, c.yarn_or_null()), c.max_position,
                        c.rounding);
  };
  if (c.linear.rope) linear_rope_ = rope(c.linear_rotary_dim, c.rope_base);
  full_rope_ = rope(c.full.shape.rope, std::floor(c.rope_base));
  uint64_t idle = 0;
  BeginPlaces();
  for (int64_t i = 0; i < c.layers; ++i) {
    layers_[i].linear.decay = LightningDecay(c.linear.heads, i, c.layers, c.decay_offset);
    AddLayerRows(i);
    if (!c.ffn.IsDense(i)) idle += c.ffn.idle_parameters();
  }
  EndPlaces();
  Describe(kArchitecture, c,
           {.kv_layers = c.full_layers(),
            .kv_row_bytes = c.full.key_width() * DTypeBytes(c.full.cache_dtype()),
            .recurrent_layers = c.layers - c.full_layers(),
            .heads = c.linear.heads,
            .key_dim = c.linear.head_dim,
            .value_dim = c.linear.head_dim,
            .block_tokens = kGlaBlock,
            .value_dtype = c.linear.value_dtype()},
           idle);
}

void BailingHybrid::AddLayerRows(int64_t i) {
  const BailingHybridConfig& c = config_;
  Layer& layer = layers_[i];
  const std::string prefix = "model.layers." + std::to_string(i) + ".";
  places_.Vector(prefix + "input_layernorm.weight", c.hidden, &layer.norm_in);
  places_.Vector(prefix + "post_attention_layernorm.weight", c.hidden, &layer.norm_post);
  if (c.IsFullAttention(i))
    AddLatentAttentionRows(c.full, prefix + "attention.", &layer.full, places_);
  else
    AddLinearAttentionRows(c.linear, prefix + "attention.", &layer.linear, places_);
  if (c.ffn.IsDense(i))
    AddDenseFfnRows(c.ffn, prefix + "mlp.", &layer.ffn, places_);
  else
    AddExpertFfnRows(c.ffn, prefix + "mlp.", &layer.ffn, places_);
}

bool BailingHybrid::Ignores(std::string_view tensor) const {
  return Decoder::Ignores(tensor) || LayerOfTensor(tensor) >= config_.layers ||
         tensor.find("slope") != tensor.npos;
}

void BailingHybrid::Forward(const Batch& batch, const CachePools& pools, View<float, 2> hidden,
                            Exec& exec) const {
  const BailingHybridConfig& c = config_;
  Arena::Scope scope(exec.scratch);
  const RopeTable linear_rope = MakeRopeTable(linear_rope_, batch.positions, c.rounding, exec);
  const RopeTable full_rope = MakeRopeTable(full_rope_, batch.positions, c.rounding, exec);
  const Stream s = Begin(batch, layers_[0].norm_in, exec);
  int64_t kv_layer = 0, recurrent_layer = 0;
  for (int64_t i = 0; i < c.layers; ++i) {
    const Layer& layer = layers_[i];
    const int at = static_cast<int>(i);
    if (c.IsFullAttention(i))
      LatentAttention(
          {c.full, layer.full, batch, *pools.kv, kv_layer++, at, full_rope, s.normed, s.delta},
          exec);
    else
      LinearAttention({c.linear, layer.linear, batch, *pools.recurrent, recurrent_layer++, at,
                       linear_rope, s.normed, s.delta},
                      exec);
    Tap(batch, "attn_out", i, s.delta);
    AddAndNorm(s, layer.norm_post, exec);
    ExpertFfn({c.ffn, layer.ffn, c.ffn.IsDense(i), batch.tap, at, s.normed, s.delta}, exec);
    Tap(batch, "ffn_out", i, s.delta);
    AddAndNorm(s, i + 1 < c.layers ? layers_[i + 1].norm_in : final_norm(), exec);
    Tap(batch, "residual", i, s.residual);
  }
  End(batch, s, hidden, exec);
}

uint64_t BailingHybrid::ScratchBytes(int64_t rows, int64_t, int lanes) const {
  const BailingHybridConfig& c = config_;
  return StreamBytes(rows) + RopeTableBytes(c.linear_rotary_dim, rows) +
         RopeTableBytes(c.full.shape.rope, rows) +
         std::max({LinearAttentionScratchBytes(c.linear, rows),
                   LatentAttentionScratchBytes(c.full, rows, lanes),
                   ExpertFfnScratchBytes(c.ffn, rows)});
}

}  // namespace sluice
