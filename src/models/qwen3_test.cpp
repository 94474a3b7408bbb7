// What config.json may and may not say. The arithmetic behind the keys: tests/golden/.
#include "models/qwen3.h"

#include "models/family_testing.h"

namespace sluice {
namespace {

using testing::HasSubstr;

const std::string kCheckpoint = SLUICE_SOURCE_DIR "/tests/golden/qwen3_dense";

Result<Qwen3Config> ReadConfig(const std::string& more) {
  return ReadFields<Qwen3Config>(R"("vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 4,
      "num_attention_heads": 6, "intermediate_size": 64)" +
                                 more);
}

// clang-format off
const Lie kLies[] = {
    {R"({"hidden_act": "gelu"})", "hidden_act", "\"silu\""},
    {R"({"use_sliding_window": true})", "use_sliding_window", "supports only false"},
    {R"({"layer_types": ["full_attention", "sliding_attention"]})", "layer_types", "\"sliding_attention\""},
    {R"({"layer_types": ["full_attention"]})", "layer_types", "num_hidden_layers is 2"},
    {R"({"rope_scaling": {"rope_type": "dynamic", "factor": 2}})", "rope_type", "\"yarn\""},
    {R"({"rope_parameters": {"rope_type": "linear", "factor": 2}})", "rope_type", "\"yarn\""},
    {R"({"rope_parameters": {"rope_theta": 1}})", "rope_theta", "from 2"},
    {R"({"hidden_size": null})", "hidden_size", "missing"},
    {R"({"intermediate_size": null})", "intermediate_size", "missing"},
    {R"({"num_key_value_heads": 3})", "num_key_value_heads", "must divide num_attention_heads 4"},
    {R"({"head_dim": null, "num_attention_heads": 6})", "num_attention_heads", "must divide hidden_size 128"},
    {R"({"head_dim": 31})", "head_dim", "even"},
    {R"({"attention_bias": "no"})", "attention_bias", "true and false"},
    {R"({"rope_theta": 0})", "rope_theta", "from 2"},
    {R"({"eos_token_id": [1, 384]})", "eos_token_id", "to 383"},
};
// clang-format on

TEST(Qwen3, RefusesWhatConfigJsonLiesAboutByField) { ExpectRefused(kCheckpoint, kLies); }

TEST(Qwen3, AbsentKeysHaveTheirPublishedDefaults) {
  const auto c = ReadConfig("");
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->model_type, "qwen3");
  EXPECT_EQ(c->eps, 1e-6f);
  EXPECT_EQ(c->rope_base, 1e6);
  EXPECT_EQ(c->attention.shape.kv_heads, 6);
  EXPECT_EQ(c->attention.shape.head_dim, 8);
  EXPECT_TRUE(c->attention.qk_norm && !c->attention.qkv_bias && !c->attention.dense_bias);
  EXPECT_FALSE(c->tied || c->yarn);
  EXPECT_TRUE(c->eos_token_ids.empty());
}

TEST(Qwen3, ASlidingWindowThatIsSwitchedOffHasNoEffect) {
  EXPECT_TRUE(ReadConfig(R"(, "use_sliding_window": false, "sliding_window": 4096,
                               "max_window_layers": 2)")
                  .ok());
  EXPECT_TRUE(ReadConfig(R"(, "layer_types": ["full_attention", "full_attention",
                               "full_attention", "full_attention"])")
                  .ok());
}

TEST(Qwen3, ACheckpointOfOtherTensorsIsRefusedWithTheirNames) {
  EXPECT_THAT(LoadRefusal(kCheckpoint, R"({"attention_bias": true})"),
              HasSubstr("self_attn.o_proj.bias [128]"));
  EXPECT_THAT(LoadRefusal(kCheckpoint, R"({"num_hidden_layers": 1})"),
              HasSubstr("model.layers.1.mlp.down_proj.weight"));
  EXPECT_THAT(LoadRefusal(kCheckpoint, R"({"head_dim": 16})"),
              HasSubstr("self_attn.q_norm.weight\" is [32], expected is [16]"));
  EXPECT_TRUE(
      DescribeWith(kCheckpoint, R"({"tie_word_embeddings": true})")->ignore("lm_head.weight"));
}

}  // namespace
}  // namespace sluice
