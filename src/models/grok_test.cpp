// What config.json and the files may and may not say. The arithmetic behind it: tests/golden/.
#include "models/grok.h"

#include <unistd.h>

#include <filesystem>

#include "models/family_testing.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

const std::string kCheckpoint = SLUICE_SOURCE_DIR "/tests/golden/grok2";

Result<GrokConfig> ReadConfig(const std::string& more) {
  return ReadFields<GrokConfig>(R"("vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 3,
      "num_attention_heads": 4, "num_local_experts": 8, "intermediate_size": 80)" +
                                more);
}

// clang-format off
const Lie kLies[] = {
    {R"({"hidden_act": "silu"})", "hidden_act", "\"gelu\""},
    {R"({"rope_type": "yarn_log"})", "rope_type", "\"original\", \"default\" and \"yarn\""},
    {R"({"rope_type": "theta_scale"})", "rope_type", "\"yarn\""},
    {R"({"rope_scaling": {"rope_type": "longrope", "factor": 2}})", "rope_type", "\"yarn\""},
    {R"({"scaling_factor": 0})", "scaling_factor", "from 1"},
    {R"({"extrapolation_factor": 2})", "extrapolation_factor", "to 1"},
    {R"({"sliding_window_size": 4096})", "sliding_window_size", "no window"},
    {R"({"global_attn_every_n": 0})", "global_attn_every_n", "from 1"},
    {R"({"attn_temperature_len": 1})", "attn_temperature_len", "lengths from 2"},
    {R"({"attn_temperature_len": -2})", "attn_temperature_len", "from -1"},
    {R"({"attn_logit_softcapping": -30})", "attn_logit_softcapping", "from 0"},
    {R"({"router_logit_softcapping": "30"})", "router_logit_softcapping", "number"},
    {R"({"final_logit_softcapping": -1})", "final_logit_softcapping", "from 0"},
    {R"({"embedding_multiplier_scale": 1e9})", "embedding_multiplier_scale", "1000000"},
    {R"({"output_multiplier_scale": true})", "output_multiplier_scale", "number"},
    {R"({"head_dim": 33})", "head_dim", "rotary width of 33"},
    {R"({"head_dim": 34, "rope_rotate_half_dims": true})", "head_dim", "rotary width of 17"},
    {R"({"rope_rotate_half_dims": 1})", "rope_rotate_half_dims", "true and false"},
    {R"({"num_key_value_heads": 3})", "num_key_value_heads", "must divide num_attention_heads 4"},
    {R"({"num_local_experts": null})", "num_local_experts", "missing"},
    {R"({"num_local_experts": 0})", "num_local_experts", "from 1"},
    {R"({"num_local_experts": 65536, "num_hidden_layers": 4})", "num_local_experts", "with 4 layers allowed are 32768"},
    {R"({"num_experts_per_tok": 9})", "num_experts_per_tok", "num_local_experts is 8"},
    {R"({"moe_intermediate_size": 0})", "moe_intermediate_size", "from 1"},
    {R"({"intermediate_size": null})", "intermediate_size", "missing"},
    {R"({"residual_moe": "yes"})", "residual_moe", "true and false"},
};
// clang-format on

TEST(Grok, RefusesWhatConfigJsonLiesAboutByField) { ExpectRefused(kCheckpoint, kLies); }

TEST(Grok, AbsentKeysHaveTheirPublishedDefaults) {
  const auto c = ReadConfig("");
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->attention.softcap, 30.0f);
  EXPECT_EQ(c->attention.temperature_length, 0);
  EXPECT_EQ(c->attention.shape.kv_heads, 4);
  EXPECT_EQ(c->rotary_width, 12);
  EXPECT_FALSE(c->yarn.has_value());
  EXPECT_EQ(c->ffn.router_softcap, 30.0f);
  EXPECT_EQ(c->ffn.intermediate, 80);
  EXPECT_EQ(c->ffn.shared_intermediate, 0);
  EXPECT_EQ(c->ffn.output_divisor, 1.0f);
  EXPECT_FALSE(c->ffn.renormalize);
  EXPECT_EQ(c->ffn.activation, Activation::kGeluTanh);
  EXPECT_EQ(c->embedding_multiplier, 1.0f);
  EXPECT_EQ(c->logit_softcap, 0.0f);
}

TEST(Grok, ReadsWhatTheReleaseTurnsOn) {
  const auto c = ReadConfig(R"(, "residual_moe": true, "moe_intermediate_size": 24,
      "attn_temperature_len": 1024, "rope_rotate_half_dims": true, "num_key_value_heads": 2,
      "attn_logit_softcapping": 0, "router_logit_softcapping": 0, "final_logit_softcapping": 50,
      "sliding_window_size": null)");
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->ffn.shared_intermediate, 80);
  EXPECT_EQ(c->ffn.intermediate, 24);
  EXPECT_FLOAT_EQ(c->ffn.output_divisor, 1.41421356f);
  EXPECT_EQ(c->attention.temperature_length, 1024);
  EXPECT_EQ(c->rotary_width, 6);
  EXPECT_EQ(c->attention.softcap, 0.0f);
  EXPECT_EQ(c->ffn.router_softcap, 0.0f);
  EXPECT_EQ(c->logit_softcap, 50.0f);
}

TEST(Grok, YarnHasItsParametersBesideTheOtherKeys) {
  const auto c = ReadConfig(R"(, "rope_type": "yarn", "scaling_factor": 16,
      "original_max_position_embeddings": 256, "beta_fast": 8, "extrapolation_factor": 0.5,
      "attn_factor": 2)");
  ASSERT_TRUE(c.ok()) << c.status().message();
  ASSERT_TRUE(c->yarn.has_value());
  EXPECT_EQ(c->yarn->factor, 16);
  EXPECT_EQ(c->yarn->original_max_position, 256);
  EXPECT_EQ(c->yarn->beta_fast, 8);
  EXPECT_EQ(c->yarn->beta_slow, 1);
  EXPECT_EQ(c->yarn->extrapolation_factor, 0.5);
  EXPECT_EQ(c->yarn->attention_factor, 1);  // cos and sin stay as they are
}

// A copy of the golden checkpoint without one of its files.
std::string Without(const std::string& file) {
  std::string directory = testing::TempDir() + "grok_test_XXXXXX";
  EXPECT_NE(mkdtemp(directory.data()), nullptr);
  for (const auto& entry : fs::directory_iterator(kCheckpoint))
    if (entry.is_regular_file() && entry.path().filename() != file)
      fs::copy_file(entry.path(), directory + "/" + entry.path().filename().string());
  return directory;
}

TEST(Grok, AnAbsentPieceIsNamedBeforeAnythingIsRead) {
  const struct {
    std::string file;
    std::vector<std::string> says;
  } kCases[] = {
      {"pytorch_model-00007-TP-003.safetensors",
       {"piece 3 of ", "pytorch_model-00007-TP-", "is absent"}},
      {"pytorch_model-00007-TP-007.safetensors",  // only the shapes can tell
       {"in pieces that do not fit together", "model.layers.0.block_sparse_moe.experts.0.w2.weight",
        "7 pieces make [128, 56], expected is [128, 64]", "pytorch_model-00007-TP-000"}},
      {"pytorch_model-00013-TP-common.safetensors", {"2 missing", "model.layers.1.pre_attn_norm"}},
  };
  for (const auto& [file, says] : kCases) {
    const std::string directory = Without(file);
    const std::string message = LoadRefusal(directory, "");
    for (const std::string& part : says) EXPECT_THAT(message, HasSubstr(part)) << file;
    fs::remove_all(directory);
  }
}

TEST(Grok, ACheckpointOfOtherTensorsIsRefusedWithTheirNames) {
  EXPECT_THAT(LoadRefusal(kCheckpoint, R"({"residual_moe": false})"),
              HasSubstr("model.layers.0.mlp.down_proj.weight"));
  EXPECT_THAT(LoadRefusal(kCheckpoint, R"({"moe_intermediate_size": 128})"),
              HasSubstr("8 pieces make [64, 128], expected is [128, 128]"));
  EXPECT_THAT(LoadRefusal(kCheckpoint, R"({"intermediate_size": 128})"),
              AllOf(HasSubstr("mlp.up_proj.weight"), HasSubstr("is [256, 128]")));
}

}  // namespace
}  // namespace sluice
