// The exactness promise: batch, chunking, thread count and retracts change no bit of any logit.
#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"
#include "kernels/gla/gla.h"
#include "models/registry.h"
#include "support/model_runner.h"

namespace sluice {
namespace {

std::unique_ptr<Model> Load(const std::string& checkpoint, const std::string& overrides,
                            const std::string& dtype, const std::string& quantization = "none",
                            ActivationQuant activations = ActivationQuant::kNone) {
  Team team(2);
  ModelLoadOptions options;
  options.model_path = SLUICE_SOURCE_DIR "/tests/golden/" + checkpoint;
  options.load_format = overrides.empty() ? "auto" : "dummy";
  options.dtype = dtype;
  options.config_overrides = overrides;
  options.quantization = {.format = quantization, .group_size = 32, .zero_points = true};
  options.activations = activations;
  options.show_progress = false;
  auto model = LoadModel(options, team);
  if (!model.ok()) {
    ADD_FAILURE() << model.status().message();
    return nullptr;
  }
  return std::move(*model);
}

std::vector<int32_t> RandomTokens(uint64_t seed, int64_t count, int64_t vocab) {
  SplitMix64 random(seed);
  std::vector<int32_t> out;
  for (int64_t i = 0; i < count; ++i)
    out.push_back(static_cast<int32_t>(random.Below(static_cast<uint64_t>(vocab))));
  return out;
}

// A prompt and an answer, fed as the engine would: the prompt in chunks, the answer token by token.
std::vector<std::vector<float>> RunRequest(ModelRunner& runner, const std::vector<int32_t>& prompt,
                                           const std::vector<int32_t>& answer, int64_t chunk) {
  const int sequence = runner.Start(static_cast<int64_t>(prompt.size()));
  auto rows = runner.Feed(sequence, prompt, chunk);
  for (const int32_t token : answer) rows.push_back(runner.Step({{sequence, {token}}})[0]);
  return rows;
}

// Every family, and every kind of cache in both precisions.
struct Case {
  const char* checkpoint;
  const char* dtype;
  const char* quantization = "none";  // int4: groups of 32 with zero points
  ActivationQuant activations = ActivationQuant::kNone;
};
constexpr Case kCases[] = {
    {"ling25", "bfloat16"},
    {"ling25", "float32"},
    {"ling20", "bfloat16"},
    {"ling20", "float32"},
    {"qwen3_moe", "bfloat16"},
    {"qwen3_dense", "bfloat16"},
    {"grok2", "bfloat16"},
    {"grok2", "float32"},
    {"ling25", "bfloat16", "int8"},
    {"ling25", "bfloat16", "int4"},
    {"qwen3_moe", "bfloat16", "fp8"},
    {"qwen3_moe", "float32", "int4"},
    {"ling25", "bfloat16", "int8", ActivationQuant::kInt8},
    {"qwen3_moe", "float32", "int4", ActivationQuant::kInt8},
};

class Exactness : public testing::TestWithParam<Case> {
 protected:
  std::unique_ptr<Model> Load() {
    return sluice::Load(GetParam().checkpoint, "", GetParam().dtype, GetParam().quantization,
                        GetParam().activations);
  }
};

TEST_P(Exactness, ChunksAndThreadsChangeNoBit) {
  const auto model = Load();
  ASSERT_NE(model, nullptr);
  const auto prompt = RandomTokens(1, 1100, 384), answer = RandomTokens(2, 70, 384);
  ModelRunner whole(*model, 1, 1, 1200, 1100);
  const auto expected = RunRequest(whole, prompt, answer, 1100);
  for (const int lanes : {1, 2})
    for (const int64_t chunk : {1, 7, 64, 100, 1000}) {
      ModelRunner runner(*model, lanes, 1, 1200, chunk);
      EXPECT_EQ(RunRequest(runner, prompt, answer, chunk), expected) << chunk << " on " << lanes;
      EXPECT_LE(runner.scratch().used_max(), runner.scratch().size());
    }
}

TEST_P(Exactness, ABatchOfSixteenMixedRequestsChangesNoBit) {
  const auto model = Load();
  ASSERT_NE(model, nullptr);
  constexpr int kRequests = 16;
  std::vector<std::vector<int32_t>> prompts, answers;
  std::vector<std::vector<std::vector<float>>> expected;
  for (int r = 0; r < kRequests; ++r) {
    prompts.push_back(RandomTokens(10 + r, 1 + 23 * r, 384));
    answers.push_back(RandomTokens(50 + r, 30, 384));
    ModelRunner alone(*model, 1, 1, 512, 512);
    expected.push_back(RunRequest(alone, prompts[r], answers[r], 512));
  }
  ModelRunner together(*model, 2, kRequests, 512, 512);
  std::vector<std::vector<std::vector<float>>> actual(kRequests);
  std::vector<int> ids;
  for (int r = 0; r < kRequests; ++r)
    ids.push_back(together.Start(static_cast<int64_t>(prompts[r].size())));
  SplitMix64 random(3);
  for (bool busy = true; busy;) {
    busy = false;
    std::vector<ModelRunner::Piece> pieces;
    std::vector<int> owners;
    int64_t budget = 400;
    for (int r = 0; r < kRequests; ++r) {
      const int64_t done = together.length(ids[r]);
      const auto prompt_length = static_cast<int64_t>(prompts[r].size());
      const int64_t total = prompt_length + static_cast<int64_t>(answers[r].size());
      if (done == total) continue;
      busy = true;
      if (random.Below(4) == 0) continue;  // sits this step out
      std::vector<int32_t> tokens;
      if (done < prompt_length) {
        const int64_t count = std::min<int64_t>(
            {1 + static_cast<int64_t>(random.Below(100)), prompt_length - done, budget});
        tokens.assign(prompts[r].begin() + done, prompts[r].begin() + done + count);
      } else {
        tokens = {answers[r][done - prompt_length]};
      }
      if (tokens.empty() || budget < static_cast<int64_t>(tokens.size())) continue;
      budget -= static_cast<int64_t>(tokens.size());
      owners.insert(owners.end(), tokens.size(), r);
      pieces.push_back({ids[r], std::move(tokens)});
    }
    if (pieces.empty()) continue;
    auto rows = together.Step(pieces);
    for (size_t i = 0; i < rows.size(); ++i) actual[owners[i]].push_back(std::move(rows[i]));
  }
  for (int r = 0; r < kRequests; ++r) EXPECT_EQ(actual[r], expected[r]) << "request " << r;
}

TEST_P(Exactness, ARetractedRequestContinuesWithTheSameBits) {
  const auto model = Load();
  ASSERT_NE(model, nullptr);
  const auto prompt = RandomTokens(4, 90, 384), answer = RandomTokens(5, 60, 384);
  ModelRunner steady(*model, 2, 1, 256, 256);
  const auto expected = RunRequest(steady, prompt, answer, 256);
  ModelRunner runner(*model, 2, 1, 256, 256);
  const int sequence = runner.Start(90);
  auto actual = runner.Feed(sequence, prompt, 64);
  for (int i = 0; i < 40; ++i) actual.push_back(runner.Step({{sequence, {answer[i]}}})[0]);
  runner.Rewind(sequence);  // pages and state are lost; everything so far is fed again as chunks
  std::vector<int32_t> so_far = prompt;
  so_far.insert(so_far.end(), answer.begin(), answer.begin() + 40);
  const auto again = runner.Feed(sequence, so_far, 50);
  EXPECT_EQ(again, actual);
  for (int i = 40; i < 60; ++i) actual.push_back(runner.Step({{sequence, {answer[i]}}})[0]);
  EXPECT_EQ(actual, expected);
}

INSTANTIATE_TEST_SUITE_P(, Exactness, testing::ValuesIn(kCases), [](const auto& test) {
  std::string name = std::string(test.param.checkpoint) + "_" + test.param.dtype;
  if (test.param.quantization != std::string_view("none"))
    name += "_" + std::string(test.param.quantization);
  if (test.param.activations != ActivationQuant::kNone) name += "_rows";
  return name;
});

// Other members of the families: what config.json may say, on random weights.
struct Switches {
  const char* checkpoint;
  const char* overrides;
};
const Switches kSwitches[] = {
    {"ling25", R"({"linear_silu": true})"},
    {"ling25", R"({"linear_rope": false, "use_qk_norm": false})"},
    {"ling25", R"({"q_lora_rank": null, "rope_interleave": false})"},
    {"ling25", R"({"tie_word_embeddings": true, "first_k_dense_replace": 0})"},
    {"ling25", R"({"use_qkv_bias": true, "use_bias": true})"},
    {"ling25", R"({"num_hidden_layers": 5, "layer_group_size": 3})"},
    {"ling25", R"({"num_attention_heads": 3, "num_key_value_heads": 3, "group_norm_size": 3})"},
    {"ling25", R"({"num_experts": 1, "num_shared_experts": 0})"},
    {"ling25", R"({"num_shared_experts": 0, "n_group": 0, "topk_group": 0})"},
    {"ling25", R"({"num_shared_experts": 2, "score_function": "softmax",
                   "moe_router_enable_expert_bias": false})"},
    {"ling25", R"({"linear_decay_layer_offset": 0, "rotary_dim": 8})"},
    {"ling25", R"({"rope_scaling": {"type": "yarn", "factor": 4, "mscale_all_dim": 0.7,
                   "original_max_position_embeddings": 64}})"},
    {"ling25", R"({"head_dim": 24, "v_head_dim": 48, "moe_intermediate_size": 40,
                   "partial_rotary_factor": 1.0, "hidden_size": 136})"},
    {"ling20", R"({"use_qk_norm": false, "use_qkv_bias": true, "use_bias": true})"},
    {"ling20", R"({"norm_topk_prob": false, "tie_word_embeddings": true, "n_group": 0,
                   "topk_group": 0})"},
    {"ling20", R"({"num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 20,
                   "rotary_dim": 6, "partial_rotary_factor": null, "hidden_size": 72})"},
    {"ling20", R"({"num_key_value_heads": 1, "head_dim": null, "num_shared_experts": 0,
                   "rope_scaling": {"type": "yarn", "factor": 4}})"},
    {"ling20", R"({"num_experts": 1, "num_key_value_heads": 4})"},
    {"qwen3_moe", R"({"decoder_sparse_step": 2, "mlp_only_layers": [], "attention_bias": true})"},
    {"qwen3_moe", R"({"norm_topk_prob": false, "num_experts": 6, "num_experts_per_tok": 6})"},
    {"qwen3_moe", R"({"head_dim": null, "hidden_size": 80, "tie_word_embeddings": true})"},
    {"qwen3_moe", R"({"num_experts": 0, "mlp_only_layers": null})"},
    {"qwen3_dense", R"({"attention_bias": true, "tie_word_embeddings": true})"},
    {"qwen3_dense", R"({"rope_scaling": {"rope_type": "yarn", "factor": 4.0,
                        "original_max_position_embeddings": 64, "attention_factor": 1.2}})"},
    {"grok2", R"({"residual_moe": false, "rope_rotate_half_dims": true,
                  "attn_temperature_len": -1, "tie_word_embeddings": true})"},
    {"grok2", R"({"rope_type": "yarn", "head_dim": null, "hidden_size": 72,
                  "num_key_value_heads": 1, "attn_logit_softcapping": 0,
                  "router_logit_softcapping": 0, "final_logit_softcapping": 0,
                  "moe_intermediate_size": 40, "num_experts_per_tok": 8})"},
};

TEST(Variants, EverySwitchLoadsRunsAndKeepsChunksExact) {
  for (const auto& [checkpoint, overrides] : kSwitches) {
    SCOPED_TRACE(testing::Message() << checkpoint << " " << overrides);
    const auto model = Load(checkpoint, overrides, "auto");
    ASSERT_NE(model, nullptr);
    const auto prompt = RandomTokens(6, 130, 384), answer = RandomTokens(7, 10, 384);
    ModelRunner whole(*model, 1, 1, 256, 256), chunked(*model, 2, 1, 256, 256);
    const auto expected = RunRequest(whole, prompt, answer, 256);
    EXPECT_EQ(RunRequest(chunked, prompt, answer, 33), expected);
    for (const float logit : expected.back()) ASSERT_TRUE(std::isfinite(logit));
  }
}

}  // namespace
}  // namespace sluice
