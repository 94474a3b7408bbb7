// What config.json may and may not say. The arithmetic behind the keys: tests/golden/.
#include "models/bailing_moe_v2.h"

#include <cmath>

#include "models/family_testing.h"

namespace sluice {
namespace {

using testing::HasSubstr;

const std::string kCheckpoint = SLUICE_SOURCE_DIR "/tests/golden/ling20";

// A small whole config.json, with `more` behind it.
Result<BailingMoeV2Config> ReadConfig(const std::string& more) {
  const std::string heads =
      more.find("num_attention_heads") == more.npos ? R"("num_attention_heads": 6,)" : "";
  return ReadFields<BailingMoeV2Config>(
      heads +
      R"("vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 4, "num_experts": 8,
         "num_experts_per_tok": 2, "n_group": 4, "topk_group": 2)" +
      more);
}

// clang-format off
const Lie kLies[] = {
    // Features that are not built, by name.
    {R"({"architectures": ["BailingMoeForCausalLM"]})", "architectures", "BailingMoeV2ForCausalLM"},
    {R"({"hidden_act": "gelu"})", "hidden_act", "\"silu\""},
    {R"({"use_rmsnorm": false})", "use_rmsnorm", "supports only true"},
    {R"({"score_function": "relu"})", "score_function", "\"softmax\""},
    {R"({"rope_scaling": {"rope_type": "llama3", "factor": 2}})", "rope_type", "\"yarn\""},
    {R"({"torch_dtype": "float8_e4m3fn"})", "dtype", "bfloat16"},
    // Dimensions.
    {R"({"hidden_size": 0})", "hidden_size", "from 1"},
    {R"({"hidden_size": 128.5})", "hidden_size", "128.5"},
    {R"({"hidden_size": null})", "hidden_size", "missing"},
    {R"({"vocab_size": 1099511627776})", "vocab_size", "to 16777216"},
    {R"({"num_hidden_layers": 4097})", "num_hidden_layers", "to 4096"},
    {R"({"num_attention_heads": 0})", "num_attention_heads", "from 1"},
    {R"({"num_attention_heads": 65536})", "num_attention_heads", "to 4096"},
    {R"({"num_attention_heads": 5})", "num_key_value_heads", "must divide num_attention_heads 5"},
    {R"({"num_key_value_heads": 3})", "num_key_value_heads", "must divide num_attention_heads 4"},
    {R"({"num_key_value_heads": 0})", "num_key_value_heads", "from 1"},
    {R"({"num_key_value_heads": 8})", "num_key_value_heads", "must divide num_attention_heads 4"},
    {R"({"head_dim": 0})", "head_dim", "from 1"},
    {R"({"head_dim": 8192})", "head_dim", "to 4096"},
    {R"({"intermediate_size": 0})", "intermediate_size", "from 1"},
    {R"({"max_position_embeddings": 0})", "max_position_embeddings", "from 1"},
    // Experts.
    {R"({"num_experts": 0})", "num_experts", "from 1"},
    {R"({"num_experts": 65536})", "num_experts", "with 3 layers allowed are 43690"},
    {R"({"num_experts_per_tok": 17})", "num_experts_per_tok", "num_experts is 16"},
    {R"({"num_experts_per_tok": 9})", "num_experts_per_tok", "the 2 groups kept hold 8 experts"},
    {R"({"n_group": 3})", "n_group", "must divide num_experts 16"},
    {R"({"topk_group": 5})", "topk_group", "n_group is 4"},
    {R"({"n_group": 0})", "topk_group", "n_group is 0"},
    {R"({"moe_intermediate_size": 0})", "moe_intermediate_size", "from 1"},
    {R"({"num_shared_experts": 65536})", "num_shared_experts", "2097152 wide"},
    {R"({"first_k_dense_replace": -1})", "first_k_dense_replace", "from 0"},
    {R"({"routed_scaling_factor": "2.5"})", "routed_scaling_factor", "numbers"},
    {R"({"norm_topk_prob": 1})", "norm_topk_prob", "true and false"},
    // RoPE and norms.
    {R"({"rope_theta": 1})", "rope_theta", "from 2"},
    {R"({"partial_rotary_factor": 1.5})", "partial_rotary_factor", "from 0 to 1"},
    {R"({"partial_rotary_factor": 0})", "partial_rotary_factor", "rotary width of 0"},
    {R"({"partial_rotary_factor": 0.1})", "partial_rotary_factor", "rotary width of 3"},
    {R"({"partial_rotary_factor": null, "rotary_dim": 34})", "rotary_dim", "from 2 to 32"},
    {R"({"partial_rotary_factor": null, "rotary_dim": 7})", "rotary_dim", "rotary width of 7"},
    {R"({"rope_scaling": {"type": "yarn"}})", "factor", "missing"},
    {R"({"rms_norm_eps": -1e-6})", "rms_norm_eps", "from 0 to 1"},
    {R"({"use_qk_norm": "yes"})", "use_qk_norm", "true and false"},
    // Special ids.
    {R"({"eos_token_id": 384})", "eos_token_id", "to 383"},
    {R"({"pad_token_id": -1})", "pad_token_id", "from 0"},
    {R"({"num_nextn_predict_layers": -1})", "num_nextn_predict_layers", "from 0"},
};
// clang-format on

TEST(BailingMoeV2, RefusesWhatConfigJsonLiesAboutByField) { ExpectRefused(kCheckpoint, kLies); }

TEST(BailingMoeV2, LargestAllowedSizesAreRefusedForMemoryNotComputedWrongly) {
  const Status status = DummyRefusal(kCheckpoint, R"({"hidden_size": 1048576,
      "vocab_size": 16777216, "num_hidden_layers": 64, "num_attention_heads": 4096,
      "num_key_value_heads": 4096, "head_dim": 4096, "intermediate_size": 1048576,
      "moe_intermediate_size": 1048576, "moe_shared_expert_intermediate_size": 1048576,
      "num_experts": 64})");
  EXPECT_EQ(status.code(), Code::kOutOfMemory) << status.message();
  EXPECT_THAT(status.message(), HasSubstr("the weights need"));
}

TEST(BailingMoeV2, AbsentKeysHaveTheirPublishedDefaults) {
  const auto c = ReadConfig("");
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->model_type, "bailing_moe");
  EXPECT_EQ(c->max_position, 32768);
  EXPECT_EQ(c->eps, 1e-6f);
  EXPECT_EQ(c->rope_base, 600000.0);
  EXPECT_FALSE(c->tied || c->yarn);
  EXPECT_EQ(c->attention.shape.kv_heads, 6);
  EXPECT_EQ(c->attention.shape.head_dim, 128);
  EXPECT_FLOAT_EQ(c->attention.scale, 0.0883883476f);
  EXPECT_TRUE(c->attention.qk_norm && !c->attention.qkv_bias && !c->attention.dense_bias);
  EXPECT_EQ(c->rotary_dim, 128);
  EXPECT_EQ(c->ffn.first_dense, 1);
  EXPECT_EQ(c->ffn.shared_intermediate, 512);
  EXPECT_EQ(c->ffn.score, ScoreFunction::kSigmoid);
  EXPECT_EQ(c->ffn.scaling, 1.0f);
  EXPECT_TRUE(c->ffn.renormalize);
  EXPECT_FALSE(c->ffn.bias_required);
}

TEST(BailingMoeV2, KeysWithPrecedence) {
  // Ling 2.5 has it the other way round.
  EXPECT_EQ(ReadConfig(R"(, "partial_rotary_factor": 0.25, "rotary_dim": 64)")->rotary_dim, 32);
  EXPECT_EQ(ReadConfig(R"(, "rotary_dim": 64)")->rotary_dim, 64);
  EXPECT_EQ(ReadConfig(R"(, "head_dim": 40)")->rotary_dim, 40);
  EXPECT_EQ(ReadConfig(R"(, "head_dim": null)")->attention.shape.head_dim, 8);
  EXPECT_THAT(
      ReadConfig(R"(, "head_dim": null, "num_attention_heads": 5)").status().message(),
      HasSubstr("num_attention_heads is 5, without head_dim it must divide hidden_size 48"));
  EXPECT_TRUE(ReadConfig(R"(, "attention_bias": true)")->attention.qkv_bias);
  EXPECT_FALSE(
      ReadConfig(R"(, "attention_bias": true, "use_qkv_bias": false)")->attention.qkv_bias);
  EXPECT_FALSE(ReadConfig(R"(, "norm_topk_prob": false)")->ffn.renormalize);
  EXPECT_EQ(ReadConfig(R"(, "num_shared_experts": 2, "moe_intermediate_size": 40,
                             "moe_shared_expert_intermediate_size": 24)")
                ->ffn.shared_intermediate,
            48);
}

TEST(BailingMoeV2, YarnIsReadWhereverItStands) {
  for (const char* text : {R"(, "rope_theta": 7, "rope_scaling": {"type": "yarn", "factor": 4})",
                           R"(, "rope_parameters": {"rope_type": "yarn", "rope_theta": 7,
                               "factor": 4})"}) {
    const auto c = ReadConfig(text);
    ASSERT_TRUE(c.ok()) << c.status().message();
    EXPECT_EQ(c->rope_base, 7);
    ASSERT_TRUE(c->yarn);
    EXPECT_EQ(c->yarn->factor, 4);
    EXPECT_EQ(c->yarn->original_max_position, 32768);
  }
}

TEST(BailingMoeV2, IgnoresOnlyWhatItKnows) {
  const auto described = DescribeWith(kCheckpoint, R"({"num_nextn_predict_layers": 1})");
  ASSERT_TRUE(described.ok()) << described.status().message();
  EXPECT_TRUE(described->ignore("model.layers.3.eh_proj.weight"));
  EXPECT_TRUE(described->ignore("model.layers.1.attention.rotary_emb.inv_freq"));
  EXPECT_FALSE(described->ignore("model.layers.2.eh_proj.weight"));
  EXPECT_FALSE(described->ignore("model.layers.0.attention.slope"));
  EXPECT_FALSE(described->ignore("lm_head.weight"));
  EXPECT_TRUE(
      DescribeWith(kCheckpoint, R"({"tie_word_embeddings": true})")->ignore("lm_head.weight"));
}

TEST(BailingMoeV2, ACheckpointOfOtherTensorsIsRefusedWithTheirNames) {
  EXPECT_THAT(
      LoadRefusal(kCheckpoint, R"({"num_key_value_heads": 1})"),
      HasSubstr("attention.query_key_value.weight\" is [256, 128], expected is [192, 128]"));
  EXPECT_THAT(LoadRefusal(kCheckpoint, R"({"use_bias": true})"),
              HasSubstr("attention.dense.bias [128]"));
  EXPECT_THAT(LoadRefusal(kCheckpoint, R"({"use_qkv_bias": true})"),
              HasSubstr("query_key_value.bias [256]"));
  EXPECT_THAT(LoadRefusal(kCheckpoint, R"({"use_qk_norm": false})"), HasSubstr("surplus"));
  EXPECT_THAT(LoadRefusal(kCheckpoint, R"({"first_k_dense_replace": 2})"),
              HasSubstr("model.layers.1.mlp.gate_proj.weight"));
}

}  // namespace
}  // namespace sluice
