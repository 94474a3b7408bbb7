#include "models/config_fields.h"

#include <fmt/format.h>

#include <algorithm>

namespace sluice {
namespace {

// `read` is the object that says rope_type (or type) and its parameters.
std::optional<YarnParams> ReadRopeType(FieldReader& read, int64_t max_position) {
  const std::string type =
      read.String("rope_type", read.Has("type") ? read.String("type") : "default");
  if (type == "yarn")
    return YarnParams{.factor = read.Double("factor", 1, 1e6),
                      .original_max_position = read.Double("original_max_position_embeddings", 1,
                                                           1e9, static_cast<double>(max_position)),
                      .beta_fast = read.Double("beta_fast", 1e-6, 1e6, 32),
                      .beta_slow = read.Double("beta_slow", 1e-6, 1e6, 1),
                      .mscale = read.Double("mscale", 0, 1e3, 1),
                      .mscale_all_dim = read.Double("mscale_all_dim", 0, 1e3, 0),
                      .attention_factor = read.Double("attention_factor", 1e-6, 1e6, 0)};
  if (type != "default")
    read.Contradiction(read.Has("rope_type") ? "rope_type" : "type",
                       "this build supports only \"default\" and \"yarn\"");
  return std::nullopt;
}

void ReadRope(FieldReader& read, DecoderConfig& c, double base) {
  constexpr double kBaseMin = 2, kBaseMax = 1e18;
  c.rope_base = read.Double("rope_theta", kBaseMin, kBaseMax, base);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {  // the latter: transformers 5
    if (!read.Has(key)) continue;
    FieldReader nested(read.Object(key));
    c.rope_base = nested.Double("rope_theta", kBaseMin, kBaseMax, c.rope_base);
    c.yarn = ReadRopeType(nested, c.max_position);
    read.Add(nested.status());
  }
}

void ReadSpecialIds(FieldReader& read, DecoderConfig& c, std::optional<int32_t> eos) {
  for (const int64_t id : read.Ints("eos_token_id", 0, c.vocab_size - 1))
    c.eos_token_ids.push_back(static_cast<int32_t>(id));
  if (eos && *eos < c.vocab_size && !read.Has("eos_token_id") && !read.IsNull("eos_token_id"))
    c.eos_token_ids.push_back(*eos);
  for (const char* unused : {"pad_token_id", "bos_token_id"})
    read.Ints(unused, 0, c.vocab_size - 1);
}

}  // namespace

void ReadDecoder(FieldReader& read, Arithmetic arithmetic, const DecoderDefaults& defaults,
                 DecoderConfig& c) {
  c.model_type = read.String("model_type", defaults.model_type);
  c.vocab_size = read.Int("vocab_size", 1, kVocabMax);
  c.hidden = read.Int("hidden_size", 1, kWidthMax);
  c.layers = read.Int("num_hidden_layers", 1, kLayersMax);
  c.max_position = read.Int("max_position_embeddings", 1, kPositionMax, defaults.max_position);
  c.eps = static_cast<float>(read.Double("rms_norm_eps", 0, 1, defaults.eps));
  c.tied = read.Bool("tie_word_embeddings", false);
  c.rounding = arithmetic.rounding;
  c.activations = arithmetic.activations;
  ReadRope(read, c, defaults.rope_base);
  ReadSpecialIds(read, c, defaults.eos_token_id);
}

void RefuseOther(FieldReader& read, std::string_view key, std::string_view only) {
  const std::string value = read.String(key, std::string(only));
  if (value != only)
    read.Contradiction(key, fmt::format("this build supports only {}", Quoted(only)));
}

void RefuseTrue(FieldReader& read, std::string_view key) {
  if (read.Bool(key, false)) read.Contradiction(key, "this build supports only false");
}

void RefuseFalse(FieldReader& read, std::string_view key) {
  if (!read.Bool(key, true)) read.Contradiction(key, "this build supports only true");
}

HeadCounts ReadHeads(FieldReader& read, int64_t hidden, int64_t head_dim) {
  HeadCounts out;
  out.heads = read.Int("num_attention_heads", 1, kHeadsMax);
  out.kv_heads = read.Int("num_key_value_heads", 1, kHeadsMax, out.heads);
  if (out.heads % out.kv_heads != 0)
    read.Contradiction("num_key_value_heads",
                       fmt::format("it must divide num_attention_heads {}", out.heads));
  if (head_dim == 0 || read.IsNull("head_dim")) {
    head_dim = std::max<int64_t>(hidden / out.heads, 1);
    if (!read.Has("head_dim") && hidden % out.heads != 0)
      read.Contradiction("num_attention_heads",
                         fmt::format("without head_dim it must divide hidden_size {}", hidden));
  }
  out.head_dim = read.Int("head_dim", 1, kHeadDimMax, head_dim);
  return out;
}

int64_t ReadRotaryWidth(FieldReader& read, int64_t head_dim,
                        std::initializer_list<std::string_view> keys, int64_t otherwise) {
  int64_t width = otherwise;
  std::string_view decides = "head_dim";
  // From the last to the first, so that all are checked and the first one present stays.
  for (auto key = std::rbegin(keys); key != std::rend(keys); ++key) {
    if (!read.Has(*key)) continue;
    decides = *key;
    width = *key == "rotary_dim"
                ? read.Int(*key, 2, head_dim)
                : static_cast<int64_t>(static_cast<double>(head_dim) * read.Double(*key, 0, 1));
  }
  if (width % 2 != 0 || width == 0)
    read.Contradiction(
        decides, fmt::format("it gives a rotary width of {}, allowed are even ones from 2", width));
  return width;
}

void CheckExpertCounts(FieldReader& read, const ExpertCounts& c) {
  if (c.experts * c.layers > kAllExpertsMax)
    read.Contradiction(c.experts_key, fmt::format("with {} layers allowed are {}", c.layers,
                                                  kAllExpertsMax / c.layers));
  if (c.top_k > c.experts)
    read.Contradiction("num_experts_per_tok", fmt::format("{} is {}", c.experts_key, c.experts));
}

}  // namespace sluice
