// What config.json may and may not say. The arithmetic behind the keys: tests/golden/.
#include "models/bailing_hybrid.h"

#include <cmath>

#include "models/family_testing.h"

namespace sluice {
namespace {

using testing::HasSubstr;

constexpr const char* kCheckpoint = SLUICE_SOURCE_DIR "/tests/golden/ling25";

Result<ModelDescription> Describe(std::string overrides) {
  return DescribeWith(kCheckpoint, std::move(overrides));
}

// A small whole config.json, with `patch` over it.
Result<BailingHybridConfig> ReadConfig(const std::string& patch, const std::string& more = "{}") {
  auto base = JsonObject::Parse(R"({"vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 4,
      "num_attention_heads": 3, "layer_group_size": 2, "group_norm_size": 1, "num_experts": 8,
      "num_experts_per_tok": 2, "n_group": 4, "topk_group": 2)" +
                                    patch + "}",
                                "config.json");
  EXPECT_TRUE(base.ok()) << base.status().message();
  auto over = JsonObject::Parse(more, "--json-model-override-args");
  EXPECT_TRUE(over.ok()) << over.status().message();
  return BailingHybridConfig::Read(base->WithOverrides(*over), {Rounding::kBf16},
                                   MoeBackend::kAuto);
}

// clang-format off
const Lie kLies[] = {
    // Features that are not built, by name.
    {R"({"architectures": ["BailingMoeV3ForCausalLM"]})", "architectures", "BailingMoeV2_5ForCausalLM"},
    {R"({"architectures": null})", "architectures", "absent"},
    {R"({"architectures": []})", "architectures", "absent"},
    {R"({"architectures": 7})", "architectures", "strings"},
    {R"({"rope_scaling": {"rope_type": "linear", "factor": 2}})", "rope_type", "\"yarn\""},
    {R"({"rope_scaling": {"type": "dynamic", "factor": 2}})", "type", "\"yarn\""},
    {R"({"hidden_act": "gelu"})", "hidden_act", "\"silu\""},
    {R"({"full_attention_type": "gqa"})", "full_attention_type", "\"mla\""},
    {R"({"score_function": "relu"})", "score_function", "\"softmax\""},
    {R"({"quantization_config": {"quant_method": "gptq"}})", "quant_method", "\"fp8\""},
    {R"({"quantization_config": {}})", "quant_method", "\"compressed-tensors\" and \"fp8\""},
    {R"({"torch_dtype": "float8_e4m3fn"})", "dtype", "bfloat16"},
    // Layer kinds.
    {R"({"layer_group_size": 0})", "layer_group_size", "from 1"},
    {R"({"layer_group_size": -2})", "layer_group_size", "from 1"},
    {R"({"layer_group_size": null})", "layer_group_size", "missing"},
    {R"({"layers_block_type": ["linear_attention", "attention"]})", "layers_block_type", "4 layers"},
    {R"({"layers_block_type": []})", "layers_block_type", "4 layers"},
    {R"({"layers_block_type": ["attention", "attention", "linear_attention", "attention"]})",
     "layers_block_type", "contradicts layer_group_size 2"},
    {R"({"layers_block_type": ["linear_attention", "attention", "linear_attention", "mamba"]})",
     "layers_block_type", "contradicts"},
    // Dimensions.
    {R"({"hidden_size": 0})", "hidden_size", "from 1"},
    {R"({"hidden_size": -128})", "hidden_size", "from 1"},
    {R"({"hidden_size": 1099511627776})", "hidden_size", "to 1048576"},
    {R"({"hidden_size": 128.5})", "hidden_size", "128.5"},
    {R"({"hidden_size": "128"})", "hidden_size", "integers"},
    {R"({"hidden_size": true})", "hidden_size", "integers"},
    {R"({"hidden_size": null})", "hidden_size", "missing"},
    {R"({"hidden_size": 18446744073709551615})", "hidden_size", "integers"},
    {R"({"vocab_size": 0})", "vocab_size", "from 1"},
    {R"({"vocab_size": 1099511627776})", "vocab_size", "to 16777216"},
    {R"({"num_hidden_layers": 0})", "num_hidden_layers", "from 1"},
    {R"({"num_hidden_layers": 1099511627776})", "num_hidden_layers", "to 4096"},
    {R"({"num_attention_heads": 0})", "num_attention_heads", "from 1"},
    {R"({"num_attention_heads": 65536})", "num_attention_heads", "to 4096"},
    {R"({"head_dim": 0})", "head_dim", "from 1"},
    {R"({"head_dim": 32.25})", "head_dim", "32.25"},
    {R"({"intermediate_size": 0})", "intermediate_size", "from 1"},
    {R"({"max_position_embeddings": 0})", "max_position_embeddings", "from 1"},
    {R"({"q_lora_rank": 0})", "q_lora_rank", "from 1"},
    {R"({"kv_lora_rank": 0})", "kv_lora_rank", "from 1"},
    {R"({"kv_lora_rank": -1})", "kv_lora_rank", "from 1"},
    {R"({"qk_nope_head_dim": 0})", "qk_nope_head_dim", "from 1"},
    {R"({"qk_rope_head_dim": 15})", "qk_rope_head_dim", "even"},
    {R"({"qk_rope_head_dim": 0})", "qk_rope_head_dim", "from 2"},
    {R"({"v_head_dim": 0})", "v_head_dim", "from 1"},
    // Heads and groups that do not divide.
    {R"({"num_key_value_heads": 3})", "num_key_value_heads", "divide num_attention_heads 4"},
    {R"({"num_key_value_heads": 0})", "num_key_value_heads", "from 1"},
    {R"({"group_norm_size": 3})", "group_norm_size", "must divide heads * head_dim = 128"},
    {R"({"group_norm_size": 0})", "group_norm_size", "from 1"},
    {R"({"group_norm_size": null})", "group_norm_size", "missing"},
    // Experts.
    {R"({"num_experts": 0})", "num_experts", "from 1"},
    {R"({"num_experts": 1099511627776})", "num_experts", "to 65536"},
    {R"({"num_experts": 65536})", "num_experts", "with 4 layers allowed are 32768"},
    {R"({"num_experts_per_tok": 17})", "num_experts_per_tok", "num_experts is 16"},
    {R"({"num_experts_per_tok": 0})", "num_experts_per_tok", "from 1"},
    {R"({"num_experts_per_tok": 9})", "num_experts_per_tok", "the 2 groups kept hold 8 experts"},
    {R"({"n_group": 3})", "n_group", "must divide num_experts 16"},
    {R"({"n_group": -1})", "n_group", "from 0"},
    {R"({"topk_group": 5})", "topk_group", "n_group is 4"},
    {R"({"topk_group": 0})", "topk_group", "n_group is 4"},
    {R"({"n_group": 0})", "topk_group", "n_group is 0"},
    {R"({"moe_intermediate_size": 0})", "moe_intermediate_size", "from 1"},
    {R"({"moe_shared_expert_intermediate_size": 0})", "moe_shared_expert_intermediate_size", "from 1"},
    {R"({"num_shared_experts": -1})", "num_shared_experts", "from 0"},
    {R"({"num_shared_experts": 65536})", "num_shared_experts", "2097152 wide"},
    {R"({"first_k_dense_replace": -1})", "first_k_dense_replace", "from 0"},
    {R"({"routed_scaling_factor": "2.5"})", "routed_scaling_factor", "numbers"},
    // RoPE and norms.
    {R"({"rope_theta": 0})", "rope_theta", "from 2"},
    {R"({"rope_theta": -10000})", "rope_theta", "from 2"},
    {R"({"rope_theta": 1})", "rope_theta", "from 2"},
    {R"({"rope_theta": "10000"})", "rope_theta", "numbers"},
    {R"({"partial_rotary_factor": 1.5})", "partial_rotary_factor", "from 0 to 1"},
    {R"({"partial_rotary_factor": 0})", "partial_rotary_factor", "rotary width of 0"},
    {R"({"partial_rotary_factor": 0.1})", "partial_rotary_factor", "rotary width of 3"},
    {R"({"rotary_dim": 34})", "rotary_dim", "from 2 to 32"},
    {R"({"rotary_dim": 7})", "rotary_dim", "rotary width of 7"},
    {R"({"rope_scaling": "yarn"})", "rope_scaling", "objects"},
    {R"({"rope_scaling": {"type": "yarn"}})", "factor", "missing"},
    {R"({"rope_scaling": {"type": "yarn", "factor": 0}})", "factor", "from 1"},
    {R"({"rope_scaling": {"type": "yarn", "factor": 2, "beta_fast": 0}})", "beta_fast", "from"},
    {R"({"rope_scaling": {"type": "yarn", "factor": 2, "original_max_position_embeddings": 0}})",
     "original_max_position_embeddings", "from 1"},
    {R"({"rms_norm_eps": -1e-6})", "rms_norm_eps", "from 0 to 1"},
    {R"({"linear_decay_layer_offset": 2})", "linear_decay_layer_offset", "from 0 to 1"},
    {R"({"use_qk_norm": 1})", "use_qk_norm", "true and false"},
    {R"({"tie_word_embeddings": "no"})", "tie_word_embeddings", "true and false"},
    // Special ids.
    {R"({"eos_token_id": 384})", "eos_token_id", "to 383"},
    {R"({"eos_token_id": [1, -1]})", "eos_token_id", "from 0"},
    {R"({"eos_token_id": "</s>"})", "eos_token_id", "integers"},
    {R"({"pad_token_id": 384})", "pad_token_id", "to 383"},
    {R"({"bos_token_id": 5000})", "bos_token_id", "to 383"},
    {R"({"num_nextn_predict_layers": -1})", "num_nextn_predict_layers", "from 0"},
};
// clang-format on

TEST(BailingHybrid, RefusesWhatConfigJsonLiesAboutByField) { ExpectRefused(kCheckpoint, kLies); }

TEST(BailingHybrid, NumbersThatJsonDoesNotHaveAreRefused) {
  for (const char* base : {"NaN", "Infinity", "1e999", "nan"})
    EXPECT_FALSE(Describe(fmt::format("{{\"rope_theta\": {}}}", base)).ok()) << base;
}

TEST(BailingHybrid, ReportsAllLiesAtOnce) {
  const auto described = Describe(R"({"hidden_size": 0, "rope_theta": 0, "v_head_dim": 0})");
  ASSERT_FALSE(described.ok());
  for (const char* field : {"hidden_size", "rope_theta", "v_head_dim"})
    EXPECT_THAT(described.status().message(), HasSubstr(field));
}

TEST(BailingHybrid, LargestAllowedSizesAreRefusedForMemoryNotComputedWrongly) {
  const Status status = DummyRefusal(kCheckpoint, R"({"hidden_size": 1048576,
      "vocab_size": 16777216, "num_hidden_layers": 64, "layers_block_type": null,
      "num_attention_heads": 4096, "num_key_value_heads": 4096, "head_dim": 4096,
      "kv_lora_rank": 1048576, "q_lora_rank": 1048576, "qk_nope_head_dim": 4096,
      "qk_rope_head_dim": 4096, "v_head_dim": 4096, "intermediate_size": 1048576,
      "moe_intermediate_size": 1048576, "moe_shared_expert_intermediate_size": 1048576,
      "num_experts": 64})");
  EXPECT_EQ(status.code(), Code::kOutOfMemory) << status.message();
  EXPECT_THAT(status.message(), HasSubstr("the weights need"));
}

TEST(BailingHybrid, HeadDimIs128UnlessTheFileSaysNull) {
  EXPECT_EQ(ReadConfig("")->linear.head_dim, 128);
  EXPECT_EQ(ReadConfig(R"(, "head_dim": null)")->linear.head_dim, 16);
  EXPECT_EQ(ReadConfig(R"(, "head_dim": 24)")->linear.head_dim, 24);
  const auto odd = ReadConfig(R"(, "head_dim": null)", R"({"hidden_size": 50})");
  ASSERT_FALSE(odd.ok());
  EXPECT_EQ(odd.status().param(), "num_attention_heads") << odd.status().message();
}

TEST(BailingHybrid, AbsentKeysHaveTheirPublishedDefaults) {
  const auto c = ReadConfig("");
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->max_position, 32768);
  EXPECT_EQ(c->eps, 1e-6f);
  EXPECT_EQ(c->rope_base, 600000.0);
  EXPECT_EQ(c->decay_offset, 1);
  EXPECT_EQ(c->ffn.first_dense, 1);
  EXPECT_FALSE(c->tied);
  EXPECT_FALSE(c->yarn);
  EXPECT_EQ(c->linear_rotary_dim, 64);
  EXPECT_TRUE(c->linear.qk_norm && c->linear.rope && !c->linear.silu && !c->linear.bias_allowed);
  EXPECT_EQ(c->full.query_latent, 0);
  EXPECT_EQ(c->full.shape.latent, 512);
  EXPECT_EQ(c->full.shape.nope, 128);
  EXPECT_EQ(c->full.shape.rope, 64);
  EXPECT_EQ(c->full.shape.value, 128);
  EXPECT_EQ(c->full.latent_eps, 1e-6f);
  EXPECT_EQ(c->full.rope_layout, RopeLayout::kInterleaved);
  EXPECT_FLOAT_EQ(c->full.scale, 0.0721687836f);
  EXPECT_EQ(c->ffn.dense_intermediate, 5120);
  EXPECT_EQ(c->ffn.intermediate, 512);
  EXPECT_EQ(c->ffn.shared_intermediate, 512);
  EXPECT_EQ(c->ffn.scaling, 1.0f);
  EXPECT_EQ(c->ffn.score, ScoreFunction::kSigmoid);
  EXPECT_TRUE(c->ffn.renormalize);
  EXPECT_FALSE(c->ffn.bias_required);
  EXPECT_TRUE(c->eos_token_ids.empty());  // the published default lies outside this vocabulary
  EXPECT_EQ(ReadConfig("", R"({"vocab_size": 157184})")->eos_token_ids,
            std::vector<int32_t>{156892});
  EXPECT_TRUE(
      ReadConfig(R"(, "eos_token_id": null)", R"({"vocab_size": 157184})")->eos_token_ids.empty());
}

TEST(BailingHybrid, KeysWithPrecedence) {
  EXPECT_EQ(ReadConfig(R"(, "rotary_dim": 32, "partial_rotary_factor": 1.0)")->linear_rotary_dim,
            32);
  EXPECT_EQ(ReadConfig(R"(, "partial_rotary_factor": 0.25)")->linear_rotary_dim, 32);
  EXPECT_FALSE(ReadConfig(R"(, "linear_silu": true, "use_linear_silu": false)")->linear.silu);
  EXPECT_TRUE(ReadConfig(R"(, "linear_silu": false, "use_linear_silu": true)")->linear.silu);
  EXPECT_TRUE(ReadConfig(R"(, "linear_silu": true)")->linear.silu);
  const auto shared = ReadConfig(R"(, "num_shared_experts": 2, "moe_intermediate_size": 40,
                                      "moe_shared_expert_intermediate_size": 24)");
  EXPECT_EQ(shared->ffn.shared_intermediate, 48);
  EXPECT_TRUE(ReadConfig(R"(, "norm_topk_prob": false)")->ffn.renormalize);
  const auto yarn = ReadConfig(R"(, "rope_scaling": {"rope_type": "yarn", "type": "linear",
      "factor": 2, "mscale_all_dim": 1.0})");
  ASSERT_TRUE(yarn.ok()) << yarn.status().message();
  EXPECT_EQ(yarn->yarn->original_max_position, 32768);
  EXPECT_FLOAT_EQ(yarn->full.scale,
                  static_cast<float>(std::pow(1.0693147181, 2) / std::sqrt(192.0)));
}

TEST(BailingHybrid, FullLayersEndEachGroupAndFillAnIncompleteOne) {
  const auto kinds = [](const char* overrides) {
    const auto c = ReadConfig("", overrides);
    EXPECT_TRUE(c.ok()) << c.status().message();
    std::string out;
    for (int64_t i = 0; c.ok() && i < c->layers; ++i) out += c->IsFullAttention(i) ? 'F' : 'l';
    return out;
  };
  EXPECT_EQ(kinds(R"({"num_hidden_layers": 8, "layer_group_size": 4})"), "lllFlllF");
  EXPECT_EQ(kinds(R"({"num_hidden_layers": 7, "layer_group_size": 4})"), "lllFFFF");
  EXPECT_EQ(kinds(R"({"num_hidden_layers": 3, "layer_group_size": 1})"), "FFF");
  EXPECT_EQ(kinds(R"({"num_hidden_layers": 3, "layer_group_size": 5})"), "FFF");
  EXPECT_EQ(kinds(R"({"num_hidden_layers": 1, "layer_group_size": 2})"), "F");
}

TEST(BailingHybrid, DecayMatchesPublishedNumbers) {
  struct Row {
    int64_t layers, heads, layer, offset;
    double first, last;
  };
  for (const Row& row : {Row{80, 64, 0, 1, -0.92862086, -0.0039557353},
                         Row{80, 64, 78, 1, -0.02322446, -0.0000989315},
                         Row{80, 64, 6, 0, -0.84736734, -0.0036096118},
                         Row{32, 32, 30, 0, -0.02713410, -0.0001260471}}) {
    const std::vector<float> decay = LightningDecay(row.heads, row.layer, row.layers, row.offset);
    EXPECT_NEAR(decay.front(), row.first, 1e-6 * std::abs(row.first));
    EXPECT_NEAR(decay.back(), row.last, 1e-6 * std::abs(row.last));
  }
  const double twelve[] = {0.5,       0.25,       0.125,      0.0625,     0.03125,   0.015625,
                           0.0078125, 0.00390625, 0.70710678, 0.35355339, 0.1767767, 0.08838835};
  const std::vector<float> slopes = LightningDecay(12, 1, 80, 1);
  for (size_t h = 0; h < 12; ++h) EXPECT_NEAR(slopes[h], -twelve[h] * 1.00001, 1e-7);
}

TEST(BailingHybrid, IgnoresOnlyWhatItKnows) {
  const auto described = Describe(R"({"num_nextn_predict_layers": 1})");
  ASSERT_TRUE(described.ok()) << described.status().message();
  EXPECT_TRUE(described->ignore("model.layers.4.eh_proj.weight"));
  EXPECT_TRUE(described->ignore("model.layers.12.mlp.gate.weight"));
  EXPECT_TRUE(described->ignore("model.layers.0.attention.slope"));
  EXPECT_TRUE(described->ignore("model.layers.1.attention.rotary_emb.inv_freq"));
  EXPECT_FALSE(described->ignore("model.layers.3.eh_proj.weight"));
  EXPECT_FALSE(described->ignore("model.layers.x.weight"));
  EXPECT_FALSE(described->ignore("model.layers.99999999999999999999.weight"));
  EXPECT_FALSE(described->ignore("lm_head.weight"));
  EXPECT_TRUE(Describe(R"({"tie_word_embeddings": true})")->ignore("lm_head.weight"));
}

TEST(BailingHybrid, ACheckpointOfOtherTensorsIsRefusedWithTheirNames) {
  const auto refusal = [](const char* overrides) { return LoadRefusal(kCheckpoint, overrides); };
  EXPECT_THAT(refusal(R"({"v_head_dim": 16})"),
              HasSubstr("attention.kv_b_proj.weight\" is [256, 64]"));
  EXPECT_THAT(refusal(R"({"use_bias": true})"), HasSubstr("attention.dense.bias [128]"));
  EXPECT_THAT(refusal(R"({"use_qkv_bias": true})"), HasSubstr("query_key_value.bias [384]"));
  EXPECT_THAT(refusal(R"({"use_qk_norm": false})"), HasSubstr("surplus"));
  EXPECT_THAT(refusal(R"({"q_lora_rank": null})"), HasSubstr("attention.q_proj.weight"));
  EXPECT_THAT(refusal(R"({"layer_group_size": 4})"), HasSubstr("model.layers.1.attention.g_proj"));
}

}  // namespace
}  // namespace sluice
