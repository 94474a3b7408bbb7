#include "models/bailing_hybrid.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "base/trace.h"
#include "kernels/embed/embed.h"
#include "kernels/gla/gla.h"
#include "kernels/linear/linear.h"
#include "kernels/norm/norm.h"

namespace sluice {
namespace {

// Bounds that keep every size computed from config.json, summed over all layers, below 2^62 bytes,
// and the weight table of the oddest config.json within some hundred megabytes.
constexpr int64_t kWidthMax = 1 << 20;
constexpr int64_t kHeadsMax = 1 << 12;
constexpr int64_t kCountMax = 1 << 16;
constexpr int64_t kAllExpertsMax = 1 << 17;  // over all layers; the largest release has 20,000
constexpr int64_t kVocabMax = 1 << 24;
constexpr int64_t kPositionMax = 1 << 30;
constexpr int32_t kEosDefault = 156892;

// A string field of which we build one value only.
void RefuseOther(FieldReader& read, std::string_view key, std::string_view only) {
  const std::string value = read.String(key, std::string(only));
  if (value != only)
    read.Contradiction(key, fmt::format("this build supports only {}", Quoted(only)));
}

std::optional<YarnParams> ReadRopeScaling(FieldReader& read, int64_t max_position) {
  if (!read.Has("rope_scaling")) return std::nullopt;
  FieldReader scaling(read.Object("rope_scaling"));
  const std::string type =
      scaling.String("rope_type", scaling.Has("type") ? scaling.String("type") : "default");
  std::optional<YarnParams> yarn;
  if (type == "yarn") {
    yarn =
        YarnParams{.factor = scaling.Double("factor", 1, 1e6),
                   .original_max_position = scaling.Double("original_max_position_embeddings", 1,
                                                           1e9, static_cast<double>(max_position)),
                   .beta_fast = scaling.Double("beta_fast", 1e-6, 1e6, 32),
                   .beta_slow = scaling.Double("beta_slow", 1e-6, 1e6, 1),
                   .mscale = scaling.Double("mscale", 0, 1e3, 1),
                   .mscale_all_dim = scaling.Double("mscale_all_dim", 0, 1e3, 0)};
  } else if (type != "default") {
    scaling.Contradiction(scaling.Has("rope_type") ? "rope_type" : "type",
                          "this build supports only \"default\" and \"yarn\"");
  }
  read.Add(scaling.status());
  return yarn;
}

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

void ReadSpecialIds(FieldReader& read, BailingHybridConfig& c) {
  for (const int64_t id : read.Ints("eos_token_id", 0, c.vocab_size - 1))
    c.eos_token_ids.push_back(static_cast<int32_t>(id));
  if (!read.Has("eos_token_id") && !read.IsNull("eos_token_id") && kEosDefault < c.vocab_size)
    c.eos_token_ids.push_back(kEosDefault);
  for (const char* unused : {"pad_token_id", "bos_token_id"})
    read.Ints(unused, 0, c.vocab_size - 1);
}

void ReadLinear(FieldReader& read, BailingHybridConfig& c, Rounding rounding) {
  LinearAttentionConfig& l = c.linear;
  l.hidden = c.hidden;
  l.heads = read.Int("num_attention_heads", 1, kHeadsMax);
  // Neither attention kind has other key heads, but a number that cannot be is a wrong file.
  if (l.heads % read.Int("num_key_value_heads", 1, kHeadsMax, 1) != 0)
    read.Contradiction("num_key_value_heads",
                       fmt::format("it must divide num_attention_heads {}", l.heads));
  const bool split = read.IsNull("head_dim");
  if (split && c.hidden % l.heads != 0)
    read.Contradiction("num_attention_heads",
                       fmt::format("without head_dim it must divide hidden_size {}", c.hidden));
  l.head_dim =
      read.Int("head_dim", 1, 4096, split ? std::max<int64_t>(c.hidden / l.heads, 1) : 128);
  l.norm_groups = static_cast<int>(read.Int("group_norm_size", 1, kCountMax));
  if (l.width() % l.norm_groups != 0)
    read.Contradiction("group_norm_size",
                       fmt::format("it must divide heads * head_dim = {}", l.width()));
  l.eps = c.eps;
  l.qk_norm = read.Bool("use_qk_norm", true);
  l.silu = read.Bool("use_linear_silu", read.Bool("linear_silu", false));
  l.rope = read.Bool("linear_rope", true);
  const bool qkv_bias = read.Bool("use_qkv_bias", false), bias = read.Bool("use_bias", false);
  l.qkv_bias_required = qkv_bias;
  l.dense_bias_required = bias;
  l.bias_allowed = qkv_bias || bias;
  l.rounding = rounding;
  const double factor = read.Double("partial_rotary_factor", 0, 1, 0.5);
  c.linear_rotary_dim = read.Int("rotary_dim", 2, l.head_dim,
                                 static_cast<int64_t>(static_cast<double>(l.head_dim) * factor));
  if (!l.rope) c.linear_rotary_dim = 0;
  if (c.linear_rotary_dim % 2 != 0 || (l.rope && c.linear_rotary_dim == 0))
    read.Contradiction(read.Has("rotary_dim") ? "rotary_dim" : "partial_rotary_factor",
                       fmt::format("it gives a rotary width of {}, allowed are even ones from 2",
                                   c.linear_rotary_dim));
}

void ReadFull(FieldReader& read, BailingHybridConfig& c, Rounding rounding) {
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
  f.rounding = rounding;
  double scale = 1 / std::sqrt(static_cast<double>(f.shape.nope + f.shape.rope));
  if (c.yarn && c.yarn->mscale_all_dim != 0)
    scale *= std::pow(YarnMscale(c.yarn->factor, c.yarn->mscale_all_dim), 2);
  f.scale = static_cast<float>(scale);
}

void ReadFfn(FieldReader& read, BailingHybridConfig& c, Rounding rounding, MoeBackend backend) {
  ExpertFfnConfig& f = c.ffn;
  f.hidden = c.hidden;
  f.dense_intermediate = read.Int("intermediate_size", 1, kWidthMax, 5120);
  f.experts = read.Int("num_experts", 1, kCountMax, 256);
  f.top_k = read.Int("num_experts_per_tok", 1, 1024, 8);
  f.intermediate = read.Int("moe_intermediate_size", 1, kWidthMax, 512);
  f.shared_intermediate =
      read.Int("num_shared_experts", 0, kCountMax, 1) *
      read.Int("moe_shared_expert_intermediate_size", 1, kWidthMax, f.intermediate);
  if (f.shared_intermediate > kWidthMax)
    read.Contradiction("num_shared_experts", fmt::format("together {} wide, allowed are {}",
                                                         f.shared_intermediate, kWidthMax));
  f.n_group = static_cast<int>(read.Int("n_group", 0, kCountMax, 8));
  f.topk_group = static_cast<int>(read.Int("topk_group", 0, kCountMax, 4));
  const std::string score = read.String("score_function", "sigmoid");
  f.score = score == "softmax" ? ScoreFunction::kSoftmax : ScoreFunction::kSigmoid;
  if (score != "sigmoid" && score != "softmax")
    read.Contradiction("score_function", "this build supports only \"sigmoid\" and \"softmax\"");
  f.renormalize = true;  // this family always does, whatever norm_topk_prob says
  f.scaling = static_cast<float>(read.Double("routed_scaling_factor", -1e6, 1e6, 1.0));
  f.bias_required = read.Bool("moe_router_enable_expert_bias", false);
  f.backend = backend;
  f.rounding = rounding;
  c.one_expert = f.experts == 1;
  c.first_dense = read.Int("first_k_dense_replace", 0, kCountMax, 1);
  if (c.one_expert) return;
  if (f.experts * c.layers > kAllExpertsMax)
    read.Contradiction("num_experts", fmt::format("with {} layers allowed are {}", c.layers,
                                                  kAllExpertsMax / c.layers));
  if (f.top_k > f.experts)
    read.Contradiction("num_experts_per_tok", fmt::format("num_experts is {}", f.experts));
  if ((f.n_group == 0) != (f.topk_group == 0) || f.topk_group > f.n_group)
    read.Contradiction("topk_group", fmt::format("n_group is {}", f.n_group));
  if (f.n_group > 0 && f.experts % f.n_group != 0)
    read.Contradiction("n_group", fmt::format("it must divide num_experts {}", f.experts));
  else if (f.n_group > 0 && f.top_k > f.experts / f.n_group * f.topk_group)
    read.Contradiction("num_experts_per_tok",
                       fmt::format("the {} groups kept hold {} experts", f.topk_group,
                                   f.experts / f.n_group * f.topk_group));
}

}  // namespace

Result<BailingHybridConfig> BailingHybridConfig::Read(const JsonObject& json, Rounding rounding,
                                                      MoeBackend backend) {
  FieldReader read(json);
  BailingHybridConfig c;
  c.model_type = read.String("model_type", "bailing_hybrid");
  c.vocab_size = read.Int("vocab_size", 1, kVocabMax);
  c.hidden = read.Int("hidden_size", 1, kWidthMax);
  c.layers = read.Int("num_hidden_layers", 1, 4096);
  c.max_position = read.Int("max_position_embeddings", 1, kPositionMax, 32768);
  c.layer_group = read.Int("layer_group_size", 1, 4096);
  c.decay_offset = read.Int("linear_decay_layer_offset", 0, 1, 1);
  c.eps = static_cast<float>(read.Double("rms_norm_eps", 0, 1, 1e-6));
  c.tied = read.Bool("tie_word_embeddings", false);
  c.rope_base = read.Double("rope_theta", 2, 1e18, 600000.0);
  read.Int("num_nextn_predict_layers", 0, 64, 0);  // MTP layers are left aside
  RefuseOther(read, "hidden_act", "silu");
  RefuseOther(read, "full_attention_type", "mla");
  for (const char* key : {"quantization_config", "compression_config"})
    if (read.Has(key)) read.Contradiction(key, "this build loads unquantised checkpoints only");
  c.yarn = ReadRopeScaling(read, c.max_position);
  ReadLinear(read, c, rounding);
  ReadFull(read, c, rounding);
  ReadFfn(read, c, rounding, backend);
  ReadSpecialIds(read, c);
  if (read.status().ok()) CheckLayerKinds(read, c);
  RETURN_IF_ERROR(read.status());
  return c;
}

int64_t BailingHybridConfig::full_layers() const {
  int64_t count = 0;
  for (int64_t i = 0; i < layers; ++i) count += IsFullAttention(i);
  return count;
}

BailingHybrid::BailingHybrid(BailingHybridConfig config) : config_(std::move(config)) {
  const BailingHybridConfig& c = config_;
  cache_ = {.kv_layers = c.full_layers(),
            .kv_row_bytes = c.full.key_width() * DTypeBytes(c.full.cache_dtype()),
            .recurrent_layers = c.layers - c.full_layers(),
            .heads = c.linear.heads,
            .key_dim = c.linear.head_dim,
            .value_dim = c.linear.head_dim,
            .block_tokens = kGlaBlock,
            .value_dtype = c.linear.value_dtype()};
  const YarnParams* yarn = c.yarn ? &*c.yarn : nullptr;
  if (c.linear.rope) linear_rope_ = MakeRopeFrequencies(c.linear_rotary_dim, c.rope_base, yarn);
  full_rope_ = MakeRopeFrequencies(c.full.shape.rope, std::floor(c.rope_base), yarn);
  layers_.resize(static_cast<size_t>(c.layers));
  for (int64_t i = 0; i < c.layers; ++i)
    layers_[i].linear.decay = LightningDecay(c.linear.heads, i, c.layers, c.decay_offset);
  BuildPlaces();

  info_ = {.architecture = "BailingMoeV2_5ForCausalLM",
           .model_type = c.model_type,
           .vocab_size = c.vocab_size,
           .hidden_size = c.hidden,
           .layers = c.layers,
           .linear_layers = cache_.recurrent_layers,
           .max_position = c.max_position,
           .weight_bytes = places_.bytes(),
           .parameters = places_.parameters(),
           .active_parameters = places_.parameters(),
           .eos_token_ids = c.eos_token_ids,
           .rounding = c.linear.rounding};
  for (int64_t i = 0; i < c.layers; ++i)
    if (!c.IsDense(i))
      info_.active_parameters -=
          static_cast<uint64_t>((c.ffn.experts - c.ffn.top_k) * 3 * c.hidden * c.ffn.intermediate);
}

void BailingHybrid::BuildPlaces() {
  const BailingHybridConfig& c = config_;
  const int64_t vocab = c.vocab_size, hidden = c.hidden;
  places_.Before([=, this]() -> Status {
    TRY(embedding_, Buffer::Allocate(static_cast<uint64_t>(vocab * hidden) * 2, "embedding"));
    return {};
  });
  if (c.tied)
    places_.Before([=, this]() -> Status {
      TRY(head_, PackedMatrix::Allocate(vocab, hidden));
      return {};
    });
  places_.Row({.name = "model.word_embeddings.weight",
               .aliases = {},
               .shape = {vocab, hidden},
               .dummy = DummyInit::Normal(1),
               .place = [=, this](const TensorData& data) {
                 auto* table = reinterpret_cast<Bf16*>(embedding_.data());
                 data.ToBf16(0, vocab * hidden, table);
                 if (config_.tied) head_.Pack(0, View<const Bf16, 2>(table, {vocab, hidden}));
                 return Status();
               }});
  for (int64_t i = 0; i < c.layers; ++i) {
    Layer& layer = layers_[i];
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    places_.Vector(prefix + "input_layernorm.weight", hidden, &layer.norm_in);
    places_.Vector(prefix + "post_attention_layernorm.weight", hidden, &layer.norm_post);
    if (c.IsFullAttention(i))
      AddLatentAttentionRows(c.full, prefix + "attention.", &layer.full, places_);
    else
      AddLinearAttentionRows(c.linear, prefix + "attention.", &layer.linear, places_);
    if (c.IsDense(i))
      AddDenseFfnRows(c.ffn, prefix + "mlp.", &layer.ffn, places_);
    else
      AddExpertFfnRows(c.ffn, prefix + "mlp.", &layer.ffn, places_);
  }
  places_.Vector("model.norm.weight", hidden, &norm_);
  if (!c.tied) places_.Matrix("lm_head.weight", vocab, hidden, &head_, 0, vocab);
}

bool BailingHybrid::Ignores(std::string_view tensor) const {
  if (tensor.find("slope") != tensor.npos || tensor.find("rotary_emb.inv_freq") != tensor.npos)
    return true;
  if (tensor == "lm_head.weight") return config_.tied;
  constexpr std::string_view kPrefix = "model.layers.";
  if (!tensor.starts_with(kPrefix)) return false;
  int64_t layer = -1;
  std::from_chars(tensor.data() + kPrefix.size(), tensor.data() + tensor.size(), layer);
  return layer >= config_.layers;
}

void BailingHybrid::Forward(const Batch& batch, const CachePools& pools, View<float, 2> hidden,
                            Exec& exec) const {
  const BailingHybridConfig& c = config_;
  const auto rows = static_cast<int64_t>(batch.tokens.size());
  const Rounding rounding = c.linear.rounding;
  Arena::Scope scope(exec.scratch);
  const auto table = [&](const RopeFrequencies& frequencies) {
    const auto half = static_cast<int64_t>(frequencies.inverse.size());
    const RopeTable out = {exec.scratch.Matrix<float>(rows, half),
                           exec.scratch.Matrix<float>(rows, half)};
    FillRopeTable(frequencies, batch.positions, rounding, out, exec);
    return out;
  };
  const auto tap = [&](const char* name, int64_t layer, View<const float, 2> values) {
    if (batch.tap) (*batch.tap)(name, static_cast<int>(layer), values);
  };

  View<float, 2> residual = exec.scratch.Matrix<float>(rows, c.hidden);
  View<float, 2> normed = exec.scratch.Matrix<float>(rows, c.hidden);
  View<float, 2> delta = exec.scratch.Matrix<float>(rows, c.hidden);
  const RopeTable linear_rope = table(linear_rope_), full_rope = table(full_rope_);

  Embed(batch.tokens, {reinterpret_cast<const Bf16*>(embedding_.data()), {c.vocab_size, c.hidden}},
        residual, exec);
  tap("embed", -1, residual);
  RmsNorm({residual.Split(c.hidden), layers_[0].norm_in.data(), c.eps, rounding,
           normed.Split(c.hidden)},
          exec);
  int64_t kv_layer = 0, recurrent_layer = 0;
  for (int64_t i = 0; i < c.layers; ++i) {
    const Layer& layer = layers_[i];
    const int at = static_cast<int>(i);
    if (c.IsFullAttention(i))
      LatentAttention(
          {c.full, layer.full, batch, *pools.kv, kv_layer++, at, full_rope, normed, delta}, exec);
    else
      LinearAttention({c.linear, layer.linear, batch, *pools.recurrent, recurrent_layer++, at,
                       linear_rope, normed, delta},
                      exec);
    tap("attn_out", i, delta);
    AddRmsNorm({residual, delta, layer.norm_post.data(), c.eps, rounding, normed}, exec);
    ExpertFfn({c.ffn, layer.ffn, c.IsDense(i), batch.tap, at, normed, delta}, exec);
    tap("ffn_out", i, delta);
    const std::vector<float>& next = i + 1 < c.layers ? layers_[i + 1].norm_in : norm_;
    AddRmsNorm({residual, delta, next.data(), c.eps, rounding, normed}, exec);
    tap("residual", i, residual);
  }
  tap("final_norm", -1, normed);
  GatherRows(normed, batch.output_rows, hidden, exec);
}

void BailingHybrid::Logits(View<const float, 2> hidden, View<float, 2> logits, Exec& exec) const {
  const trace::Span span("lm_head");
  Linear({.x = hidden,
          .weight = &head_,
          .rounding = Rounding::kNone,
          .bf16_inputs = config_.linear.rounding == Rounding::kBf16,
          .y = logits},
         exec);
}

uint64_t BailingHybrid::ScratchBytes(int64_t rows, int64_t, int lanes) const {
  const BailingHybridConfig& c = config_;
  const int64_t own = rows * (3 * c.hidden + c.linear_rotary_dim + c.full.shape.rope) * 4 + 7 * 64;
  return static_cast<uint64_t>(own) + std::max({LinearAttentionScratchBytes(c.linear, rows),
                                                LatentAttentionScratchBytes(c.full, rows, lanes),
                                                ExpertFfnScratchBytes(c.ffn, rows)});
}

}  // namespace sluice
