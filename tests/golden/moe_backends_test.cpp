// The bundled model through the whole engine with every back end of the experts: none may change a
// bit of an answer, whatever the format of the weights.
#include <gtest/gtest.h>

#include <bit>

#include "base/log.h"
#include "base/random.h"
#include "sluice/engine.h"

namespace sluice {
namespace {

constexpr int64_t kPromptTokens =
    300;  // `auto` takes fused_v2 for the prefill, epmoe for the answer

struct Answer {
  std::vector<int32_t> ids;
  std::vector<uint32_t> logprob_bits;
  bool operator==(const Answer&) const = default;
};

// A greedy answer with its log probabilities. The prompt: ids drawn with `seed`.
Answer AnswerOf(Engine& engine, uint64_t seed, int64_t prompt_tokens) {
  SplitMix64 random(seed);
  GenerateRequest request;
  for (int64_t t = 0; t < prompt_tokens; ++t)
    request.input_ids.push_back(
        static_cast<int32_t>(random.Below(static_cast<uint64_t>(engine.info().vocab_size))));
  request.sampling.max_new_tokens = 16;
  request.sampling.ignore_eos = true;
  request.sampling.temperature = 0;
  request.logprobs = {.enabled = true, .prompt_start = 0};
  const auto result = engine.Generate(std::move(request));
  if (!result.ok()) {
    ADD_FAILURE() << result.status().message();
    return {};
  }
  Answer answer{.ids = result->ids, .logprob_bits = {}};
  for (const auto* const positions : {&result->prompt_logprobs, &result->logprobs})
    for (const PositionLogprobs& p : *positions)
      if (p.logprob) answer.logprob_bits.push_back(std::bit_cast<uint32_t>(*p.logprob));
  return answer;
}

class MoeBackends : public testing::TestWithParam<const char*> {};

TEST_P(MoeBackends, GiveTheSameTokensAndLogprobsToTheBit) {
  log::SetLevel(log::Level::kWarning);
  std::vector<Answer> expected;
  for (const char* backend : {"epmoe", "fused", "fused_v2", "auto"}) {
    EngineOptions options;
    options.model_path = SLUICE_SOURCE_DIR "/models/sluice-tiny";
    options.show_progress = false;
    options.moe_backend = backend;
    options.quantization = GetParam();
    const auto engine = Engine::Open(options);
    ASSERT_TRUE(engine.ok()) << engine.status().message();
    const std::vector<Answer> answers = {AnswerOf(**engine, 1, kPromptTokens),
                                         AnswerOf(**engine, 2, 3)};
    ASSERT_EQ(answers.front().ids.size(), 16u);
    ASSERT_EQ(answers.front().logprob_bits.size(), static_cast<size_t>(kPromptTokens) - 1 + 16);
    if (expected.empty()) expected = answers;
    EXPECT_TRUE(answers == expected) << backend << " differs from epmoe";
  }
}

INSTANTIATE_TEST_SUITE_P(Quantization, MoeBackends, testing::Values("none", "fp8", "int8", "int4"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace sluice
