// What config.json may and may not say. The arithmetic behind the keys: tests/golden/.
#include "models/qwen3_moe.h"

#include "models/family_testing.h"

namespace sluice {
namespace {

using testing::HasSubstr;

const std::string kCheckpoint = SLUICE_SOURCE_DIR "/tests/golden/qwen3_moe";

Result<Qwen3MoeConfig> ReadConfig(const std::string& more) {
  return ReadFields<Qwen3MoeConfig>(R"("vocab_size": 96, "hidden_size": 48,
      "num_hidden_layers": 6, "num_attention_heads": 6)" +
                                    more);
}

// clang-format off
const Lie kLies[] = {
    {R"({"hidden_act": "gelu"})", "hidden_act", "\"silu\""},
    {R"({"use_sliding_window": true})", "use_sliding_window", "supports only false"},
    {R"({"rope_scaling": {"rope_type": "longrope", "factor": 2}})", "rope_type", "\"yarn\""},
    {R"({"num_key_value_heads": 3})", "num_key_value_heads", "must divide num_attention_heads 8"},
    {R"({"head_dim": null, "num_attention_heads": 12})", "num_attention_heads", "must divide hidden_size 128"},
    {R"({"num_experts": -1})", "num_experts", "from 0"},
    {R"({"num_experts": 65536})", "num_experts", "with 3 layers allowed are 43690"},
    {R"({"num_experts_per_tok": 9})", "num_experts_per_tok", "num_experts is 8"},
    {R"({"num_experts_per_tok": 0})", "num_experts_per_tok", "from 1"},
    {R"({"moe_intermediate_size": 0})", "moe_intermediate_size", "from 1"},
    {R"({"decoder_sparse_step": 0})", "decoder_sparse_step", "from 1"},
    {R"({"mlp_only_layers": [-1]})", "mlp_only_layers", "from 0"},
    {R"({"mlp_only_layers": ["0"]})", "mlp_only_layers", "integers"},
    {R"({"norm_topk_prob": "no"})", "norm_topk_prob", "true and false"},
    {R"({"attention_bias": 1})", "attention_bias", "true and false"},
};
// clang-format on

TEST(Qwen3Moe, RefusesWhatConfigJsonLiesAboutByField) { ExpectRefused(kCheckpoint, kLies); }

TEST(Qwen3Moe, LargestAllowedSizesAreRefusedForMemoryNotComputedWrongly) {
  const Status status = DummyRefusal(kCheckpoint, R"({"hidden_size": 1048576,
      "vocab_size": 16777216, "num_hidden_layers": 64, "num_attention_heads": 4096,
      "num_key_value_heads": 4096, "head_dim": 4096, "intermediate_size": 1048576,
      "moe_intermediate_size": 1048576, "num_experts": 64, "attention_bias": true})");
  EXPECT_EQ(status.code(), Code::kOutOfMemory) << status.message();
  EXPECT_THAT(status.message(), HasSubstr("the weights need"));
}

TEST(Qwen3Moe, AbsentKeysHaveTheirPublishedDefaults) {
  const auto c = ReadConfig("");
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->model_type, "qwen3_moe");
  EXPECT_EQ(c->attention.shape.head_dim, 8);
  EXPECT_EQ(c->ffn.experts, 128);
  EXPECT_EQ(c->ffn.top_k, 8);
  EXPECT_EQ(c->ffn.intermediate, 768);
  EXPECT_EQ(c->ffn.shared_intermediate, 0);
  EXPECT_EQ(c->ffn.score, ScoreFunction::kSoftmax);
  EXPECT_EQ(c->ffn.scaling, 1.0f);
  EXPECT_FALSE(c->ffn.renormalize);
  EXPECT_TRUE(c->ffn.names.router_bias.empty());
}

TEST(Qwen3Moe, DenseLayersAreListedOrSkippedByTheStep) {
  const auto dense = [](const char* more) {
    const auto c = ReadConfig(more);
    EXPECT_TRUE(c.ok()) << c.status().message();
    std::string out;
    for (size_t i = 0; c.ok() && i < c->dense.size(); ++i) out += c->dense[i] ? 'd' : 'm';
    return out;
  };
  EXPECT_EQ(dense(""), "mmmmmm");
  EXPECT_EQ(dense(R"(, "mlp_only_layers": [0, 5, 77])"), "dmmmmd");
  EXPECT_EQ(dense(R"(, "decoder_sparse_step": 2)"), "dmdmdm");
  EXPECT_EQ(dense(R"(, "decoder_sparse_step": 3, "mlp_only_layers": [2])"), "dddddm");
  EXPECT_EQ(dense(R"(, "num_experts": 0)"), "dddddd");
  EXPECT_EQ(dense(R"(, "num_local_experts": 0)"), "dddddd");  // as transformers 5 saves it
}

TEST(Qwen3Moe, ACheckpointOfOtherTensorsIsRefusedWithTheirNames) {
  EXPECT_THAT(LoadRefusal(kCheckpoint, R"({"attention_bias": true})"),
              HasSubstr("self_attn.k_proj.bias [64]"));
  EXPECT_THAT(LoadRefusal(kCheckpoint, R"({"mlp_only_layers": []})"),
              HasSubstr("model.layers.0.mlp.experts.0.down_proj.weight"));
  EXPECT_THAT(LoadRefusal(kCheckpoint, R"({"num_hidden_layers": 2})"),
              HasSubstr("model.layers.2.input_layernorm.weight"));
}

}  // namespace
}  // namespace sluice
