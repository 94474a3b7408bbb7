#include "models/grok.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace sluice {
namespace {

constexpr const char* kArchitecture = "Grok1ForCausalLM";
constexpr double kSoftcapMax = 1e6;

const GroupedAttentionNames kAttentionNames = {.fused = {},
                                               .q = "q_proj",
                                               .k = "k_proj",
                                               .v = "v_proj",
                                               .q_norm = {},
                                               .k_norm = {},
                                               .dense = "o_proj"};

// After "model.layers.7.". Releases cut each expert into pieces; the dense FFN is whole.
const ExpertFfnNames kFfnNames = {
    .router = "block_sparse_moe.gate.weight",
    .router_bias = {},
    .experts = "block_sparse_moe.experts.",
    .expert = {.gate = "w1.weight", .up = "w3.weight", .down = "w2.weight", .in_pieces = true},
    .shared = "mlp.",
    .dense = {}};

// The rope's type and parameters stand beside the other keys, under names of their own.
void ReadRopeType(FieldReader& read, GrokConfig& c) {
  const std::string type = read.String("rope_type", "original");
  // These matter to "yarn" only, but a number that cannot be is a wrong file.
  const double trained = static_cast<double>(
      read.Int("original_max_position_embeddings", 1, kPositionMax, c.max_position));
  const YarnParams yarn = {.factor = read.Double("scaling_factor", 1, 1e6, 1),
                           .original_max_position = trained,
                           .beta_fast = read.Double("beta_fast", 1e-6, 1e6, 32),
                           .beta_slow = read.Double("beta_slow", 1e-6, 1e6, 1),
                           .extrapolation_factor = read.Double("extrapolation_factor", 0, 1, 1),
                           .attention_factor = 1};  // published code leaves cos and sin unscaled
  read.Double("attn_factor", 0, 1e6, 1);
  if (type == "yarn" || type == "yarn_linear")
    c.yarn = yarn;
  else if (type != "original" && type != "default")
    read.Contradiction("rope_type",
                       "this build supports only \"original\", \"default\" and \"yarn\"");
}

void ReadAttention(FieldReader& read, GrokConfig& c) {
  GroupedAttentionConfig& a = c.attention;
  const HeadCounts heads = ReadHeads(read, c.hidden, 0);
  a.hidden = c.hidden;
  a.shape = {heads.heads, heads.kv_heads, heads.head_dim};
  a.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(heads.head_dim)));
  a.softcap = static_cast<float>(read.Double("attn_logit_softcapping", 0, kSoftcapMax, 30));
  const int64_t length = read.Int("attn_temperature_len", -1, kPositionMax, -1);
  if (length == 1)  // log2(1) divides
    read.Contradiction("attn_temperature_len", "allowed are -1 and 0 for none, and lengths from 2");
  a.temperature_length = std::max<int64_t>(length, 0);
  a.qk_norm = false;
  a.eps = c.eps;
  a.rounding = c.rounding;
  a.activations = c.activations;
  c.rotary_width = heads.head_dim / (read.Bool("rope_rotate_half_dims", false) ? 2 : 1);
  if (c.rotary_width % 2 != 0 || c.rotary_width == 0)
    read.Contradiction("head_dim", fmt::format("it gives a rotary width of {}, allowed are even "
                                               "ones from 2",
                                               c.rotary_width));
  if (read.Int("sliding_window_size", -1, kPositionMax, -1) > 0)
    read.Contradiction("sliding_window_size", "this build supports only -1, no window");
  read.Int("global_attn_every_n", 1, kLayersMax, 1);  // of layers with a window
  ReadRopeType(read, c);
}

void ReadFfn(FieldReader& read, GrokConfig& c, MoeBackend backend) {
  ExpertFfnConfig& f = c.ffn;
  f.names = kFfnNames;
  f.hidden = c.hidden;
  f.experts = read.Int("num_local_experts", 1, kCountMax);
  f.top_k = read.Int("num_experts_per_tok", 1, 1024, 2);
  const bool beside = read.Bool("residual_moe", false);
  const bool has_own_width = read.Has("moe_intermediate_size");
  const int64_t dense = beside || !has_own_width ? read.Int("intermediate_size", 1, kWidthMax)
                                                 : read.Int("intermediate_size", 1, kWidthMax, 1);
  f.intermediate = read.Int("moe_intermediate_size", 1, kWidthMax, dense);
  f.shared_intermediate = beside ? dense : 0;
  f.output_divisor = beside ? std::numbers::sqrt2_v<float> : 1;
  f.score = ScoreFunction::kSoftmax;  // over all experts; the chosen ones are not renormalised
  f.router_softcap =
      static_cast<float>(read.Double("router_logit_softcapping", 0, kSoftcapMax, 30));
  f.activation = Activation::kGeluTanh;
  f.backend = backend;
  f.rounding = c.rounding;
  f.activations = c.activations;
  CheckExpertCounts(read, {"num_local_experts", f.experts, f.top_k, c.layers});
  const std::string activation = read.String("hidden_act", "gelu");
  if (activation != "gelu" && activation != "gelu_tanh" && activation != "gelu_pytorch_tanh")
    read.Contradiction("hidden_act", "this build supports only \"gelu\", in its tanh form");
}

}  // namespace

Result<GrokConfig> GrokConfig::Read(const JsonObject& json, Arithmetic arithmetic,
                                    MoeBackend backend) {
  FieldReader read(json);
  GrokConfig c;
  ReadDecoder(read, arithmetic, {.model_type = "git", .max_position = 131072, .eps = 1e-5}, c);
  c.embedding_multiplier =
      static_cast<float>(read.Double("embedding_multiplier_scale", -1e6, 1e6, 1));
  c.logit_multiplier = static_cast<float>(read.Double("output_multiplier_scale", -1e6, 1e6, 1));
  c.logit_softcap = static_cast<float>(read.Double("final_logit_softcapping", 0, kSoftcapMax, 0));
  ReadAttention(read, c);
  ReadFfn(read, c, backend);
  RETURN_IF_ERROR(read.status());
  return c;
}

TokenEndsConfig Grok::EndsOf(const GrokConfig& c) {
  TokenEndsConfig ends = TokenEndsOf(c);
  ends.embedding_multiplier = c.embedding_multiplier;
  ends.logit_multiplier = c.logit_multiplier;
  ends.logit_softcap = c.logit_softcap;
  return ends;
}

Grok::Grok(GrokConfig config)
    : Decoder(EndsOf(config)),
      config_(std::move(config)),
      rope_(WithKeptRows(
          MakeRopeFrequencies(config_.rotary_width, config_.rope_base, config_.yarn_or_null()),
          config_.max_position, config_.rounding)),
      layers_(static_cast<size_t>(config_.layers)) {
  const GrokConfig& c = config_;
  BeginPlaces();
  for (int64_t i = 0; i < c.layers; ++i) AddLayerRows(i);
  EndPlaces();
  Describe(kArchitecture, c, {.kv_layers = c.layers, .kv_row_bytes = c.attention.cache_row_bytes()},
           static_cast<uint64_t>(c.layers) * c.ffn.idle_parameters());
}

void Grok::AddLayerRows(int64_t i) {
  const GrokConfig& c = config_;
  Layer& layer = layers_[i];
  const std::string prefix = "model.layers." + std::to_string(i) + ".";
  places_.Vector(prefix + "pre_attn_norm.weight", c.hidden, &layer.pre_attn_norm);
  places_.Vector(prefix + "post_attn_norm.weight", c.hidden, &layer.post_attn_norm);
  places_.Vector(prefix + "pre_moe_norm.weight", c.hidden, &layer.pre_moe_norm);
  places_.Vector(prefix + "post_moe_norm.weight", c.hidden, &layer.post_moe_norm);
  AddGroupedAttentionRows(c.attention, kAttentionNames, prefix + "self_attn.", &layer.attention,
                          places_);
  AddExpertFfnRows(c.ffn, prefix, &layer.ffn, places_);
}

void Grok::Forward(const Batch& batch, const CachePools& pools, View<float, 2> hidden,
                   Exec& exec) const {
  const GrokConfig& c = config_;
  Arena::Scope scope(exec.scratch);
  const RopeTable rope = MakeRopeTable(rope_, batch.positions, c.rounding, exec);
  const Stream s = Begin(batch, layers_[0].pre_attn_norm, exec);
  for (int64_t i = 0; i < c.layers; ++i) {
    const Layer& layer = layers_[i];
    const int at = static_cast<int>(i);
    GroupedAttention(
        {c.attention, layer.attention, batch, *pools.kv, i, at, rope, s.normed, s.delta}, exec);
    Tap(batch, "attn_out", i, s.delta);
    NormAddAndNorm(s, layer.post_attn_norm, layer.pre_moe_norm, exec);
    ExpertFfn({c.ffn, layer.ffn, false, batch.tap, at, s.normed, s.delta}, exec);
    Tap(batch, "ffn_out", i, s.delta);
    NormAddAndNorm(s, layer.post_moe_norm,
                   i + 1 < c.layers ? layers_[i + 1].pre_attn_norm : final_norm(), exec);
    Tap(batch, "residual", i, s.residual);
  }
  End(batch, s, hidden, exec);
}

uint64_t Grok::ScratchBytes(int64_t rows, int64_t, int lanes) const {
  const GrokConfig& c = config_;
  return StreamBytes(rows) + RopeTableBytes(c.rotary_width, rows) +
         std::max(GroupedAttentionScratchBytes(c.attention, rows, lanes),
                  ExpertFfnScratchBytes(c.ffn, rows));
}

}  // namespace sluice
