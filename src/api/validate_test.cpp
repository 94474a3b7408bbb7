#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "sluice/sampling.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr int64_t kInt64Max = std::numeric_limits<int64_t>::max();

TEST(ValidateSampling, TakesDefaultsAndEdges) {
  SamplingParams p;
  EXPECT_TRUE(ValidateSampling(p, 10).ok());
  p = {.max_new_tokens = 0,
       .temperature = 1e-30,
       .top_p = 1e-300,
       .top_k = 0,
       .min_p = 1,
       .frequency_penalty = -2,
       .presence_penalty = 2,
       .repetition_penalty = 2,
       .logit_bias = {{9, -100.0f}},
       .stop = {"x"},
       .stop_token_ids = {0, 9}};
  EXPECT_TRUE(ValidateSampling(p, 10).ok()) << ValidateSampling(p, 10).message();
  p.temperature = -0.0;
  p.max_new_tokens = kInt64Max;
  p.top_k = kInt64Max;
  EXPECT_TRUE(ValidateSampling(p, 10).ok());
}

TEST(ValidateSampling, RefusesEachLieAndNamesTheField) {
  struct Lie {
    const char* field;
    const char* says;
    std::function<void(SamplingParams&)> tell;
  };
  const Lie lies[] = {
      {"temperature", "temperature must be non-negative", [](auto& p) { p.temperature = -1; }},
      {"temperature", "temperature must be non-negative", [](auto& p) { p.temperature = kNan; }},
      {"temperature", "temperature must be non-negative", [](auto& p) { p.temperature = kInf; }},
      {"top_p", "top_p must be in (0, 1]", [](auto& p) { p.top_p = 0; }},
      {"top_p", "top_p must be in (0, 1]", [](auto& p) { p.top_p = 1.01; }},
      {"top_p", "top_p must be in (0, 1]", [](auto& p) { p.top_p = kNan; }},
      {"top_k", "top_k must be", [](auto& p) { p.top_k = -2; }},
      {"min_p", "min_p must be in [0, 1]", [](auto& p) { p.min_p = -0.1; }},
      {"min_p", "min_p must be in [0, 1]", [](auto& p) { p.min_p = kNan; }},
      {"frequency_penalty", "[-2, 2]", [](auto& p) { p.frequency_penalty = 2.1; }},
      {"presence_penalty", "[-2, 2]", [](auto& p) { p.presence_penalty = -2.1; }},
      {"presence_penalty", "[-2, 2]", [](auto& p) { p.presence_penalty = kNan; }},
      {"repetition_penalty", "(0, 2]", [](auto& p) { p.repetition_penalty = 0; }},
      {"repetition_penalty", "(0, 2]", [](auto& p) { p.repetition_penalty = kNan; }},
      {"max_new_tokens", "max_new_tokens must be at least 0",
       [](auto& p) { p.max_new_tokens = -1; }},
      {"min_new_tokens", "found 200", [](auto& p) { p.min_new_tokens = 200; }},
      {"min_new_tokens", "found -1", [](auto& p) { p.min_new_tokens = -1; }},
      {"logit_bias", "id 10",
       [](auto& p) {
         p.logit_bias = {{10, 1.0f}};
       }},
      {"logit_bias", "id -1",
       [](auto& p) {
         p.logit_bias = {{-1, 1.0f}};
       }},
      {"logit_bias", "[-100, 100]",
       [](auto& p) {
         p.logit_bias = {{1, 100.5f}};
       }},
      {"logit_bias", "[-100, 100]",
       [](auto& p) {
         p.logit_bias = {{1, NAN}};
       }},
      {"logit_bias", "1025 entries", [](auto& p) { p.logit_bias.resize(1025); }},
      {"stop_token_ids", "id 10", [](auto& p) { p.stop_token_ids = {10}; }},
      {"stop_token_ids", "1025 entries", [](auto& p) { p.stop_token_ids.resize(1025); }},
      {"stop", "empty",
       [](auto& p) {
         p.stop = {"a", ""};
       }},
      {"stop", "17", [](auto& p) { p.stop.assign(17, "x"); }},
      {"stop", "257", [](auto& p) { p.stop = {std::string(257, 'x')}; }},
  };
  for (const Lie& lie : lies) {
    SamplingParams p;
    lie.tell(p);
    const Status status = ValidateSampling(p, 10);
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << lie.field;
    EXPECT_EQ(status.param(), lie.field);
    EXPECT_THAT(status.message(), HasSubstr(lie.says));
  }
}

TEST(ValidateLogprobs, BoundsStartTopIdsAndTheWhole) {
  const auto check = [](LogprobOptions options, int64_t prompt) {
    options.enabled = true;
    return ValidateLogprobs(options, 10, prompt);
  };
  EXPECT_TRUE(check({.prompt_start = 0, .top = 256, .token_ids = {9}}, 5).ok());
  EXPECT_TRUE(check({.prompt_start = 4}, 5).ok());
  EXPECT_EQ(check({.prompt_start = 5}, 5).param(), "logprob_start_len");
  EXPECT_EQ(check({.prompt_start = -2}, 5).param(), "logprob_start_len");
  EXPECT_EQ(check({.top = 257}, 5).param(), "top_logprobs_num");
  EXPECT_EQ(check({.top = -1}, 5).param(), "top_logprobs_num");
  EXPECT_EQ(check({.token_ids = {10}}, 5).param(), "token_ids_logprob");
  EXPECT_EQ(check({.token_ids = std::vector<int32_t>(1025)}, 5).param(), "token_ids_logprob");
  EXPECT_THAT(check({.prompt_start = 0, .top = 256}, 1 << 20).message(),
              StartsWith("268435456 log-probabilities of the prompt"));
  EXPECT_TRUE(ValidateLogprobs({.prompt_start = 99}, 10, 5).ok());  // not enabled
}

}  // namespace
}  // namespace sluice
