// The exactness promise through the whole engine: chunks, batch, threads, retracts and a short KV
// pool change no token and no bit of a log-probability.
#include <gtest/gtest.h>

#include <bit>

#include "base/log.h"
#include "base/random.h"
#include "engine/step_engine.h"
#include "models/registry.h"

namespace sluice {
namespace {

constexpr int kRequests = 16;
constexpr int64_t kContext = 2048;

struct Answer {
  std::vector<int32_t> tokens;
  std::vector<PositionLogprobs> logprobs, prompt_logprobs;
  std::optional<CoreFinish> finish;
};

std::unique_ptr<Model> Load(const std::string& checkpoint) {
  Team team(2);
  ModelLoadOptions options;
  options.model_path = SLUICE_SOURCE_DIR "/tests/golden/" + checkpoint;
  options.show_progress = false;
  auto model = LoadModel(options, team);
  if (!model.ok()) {
    ADD_FAILURE() << model.status().message();
    return nullptr;
  }
  return std::move(*model);
}

/// Request r of the sixteen: prompts of 1 to 300 tokens, greedy and sampled, with penalties, seeds,
/// log-probabilities of answers and of prompts.
CoreRequest MakeRequest(int r) {
  SplitMix64 random(100 + r);
  CoreRequest request;
  request.key = r + 1;
  request.prompt.resize(r == 5 ? 300 : 1 + 5 * r);
  for (int32_t& id : request.prompt) id = static_cast<int32_t>(random.Below(384));
  SamplingParams& s = request.sampling;
  s.max_new_tokens = 12 + r;
  s.ignore_eos = true;
  s.temperature = r % 3 == 0 ? 0 : 0.8;
  if (r % 4 == 1) s.top_p = 0.9;
  if (r % 4 == 2) s.top_k = 20;
  if (r % 5 == 3) s.repetition_penalty = 1.2;
  request.seed = random.Next();
  request.logprobs.enabled = true;
  request.logprobs.top = r % 3;
  request.logprobs.raw = r % 2 == 0;
  if (r % 2 == 1)
    request.logprobs.prompt_start =
        r % 4 == 1 ? 0 : static_cast<int64_t>(request.prompt.size()) / 2;
  return request;
}

struct Setting {
  int64_t chunk = -1;
  int lanes = 1;
  int64_t retract_interval = 0;
  int64_t kv_pages = 64;
};

/// Runs the requests together and returns their answers; `retracted` counts retracts.
std::vector<Answer> RunTogether(const Model& model, std::vector<CoreRequest> requests,
                                const Setting& setting, int64_t* retracted = nullptr) {
  Team team(setting.lanes);
  StepEngineOptions options;
  options.context_length = kContext;
  options.limits.running_requests = kRequests;
  options.limits.chunk_tokens = setting.chunk;
  options.limits.retract_interval = setting.retract_interval;
  options.kv_pages = setting.kv_pages;
  options.state_slots = kRequests;
  auto engine = *StepEngine::Create(model, options, team, ThisMachine());
  std::vector<Answer> answers(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].owner = &answers[i];
    engine->Add(std::move(requests[i]));
  }
  std::vector<CoreEvent> events;
  while (engine->Step(events)) {
    for (CoreEvent& event : events) {
      auto& answer = *static_cast<Answer*>(event.owner);
      if (event.token >= 0) answer.tokens.push_back(event.token);
      if (event.logprobs) answer.logprobs.push_back(std::move(*event.logprobs));
      if (!event.prompt_logprobs.empty()) answer.prompt_logprobs = std::move(event.prompt_logprobs);
      if (event.finish) answer.finish = std::move(event.finish);
    }
    events.clear();
  }
  if (retracted != nullptr) *retracted = engine->counters().retracted;
  return answers;
}

bool SameBits(const PositionLogprobs& a, const PositionLogprobs& b) {
  const auto bits = [](float x) { return std::bit_cast<uint32_t>(x); };
  if (a.id != b.id || a.logprob.has_value() != b.logprob.has_value()) return false;
  if (a.logprob && bits(*a.logprob) != bits(*b.logprob)) return false;
  return std::equal(a.top.begin(), a.top.end(), b.top.begin(), b.top.end(),
                    [&](const TokenLogprob& x, const TokenLogprob& y) {
                      return x.id == y.id && bits(x.logprob) == bits(y.logprob);
                    });
}

void ExpectSame(const Answer& actual, const Answer& expected) {
  EXPECT_EQ(actual.tokens, expected.tokens);
  EXPECT_EQ(actual.finish->type, CoreFinish::Type::kLength);
  EXPECT_TRUE(std::equal(actual.logprobs.begin(), actual.logprobs.end(), expected.logprobs.begin(),
                         expected.logprobs.end(), SameBits));
  EXPECT_TRUE(std::equal(actual.prompt_logprobs.begin(), actual.prompt_logprobs.end(),
                         expected.prompt_logprobs.begin(), expected.prompt_logprobs.end(),
                         SameBits));
}

/// A checkpoint of each family.
class EngineBits : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    log::SetLevel(log::Level::kWarning);
    model_ = Load(GetParam());
    ASSERT_NE(model_, nullptr);
    for (int r = 0; r < kRequests; ++r)
      alone_.push_back(RunTogether(*model_, {MakeRequest(r)}, {})[0]);
  }

  static std::vector<CoreRequest> All() {
    std::vector<CoreRequest> out;
    for (int r = 0; r < kRequests; ++r) out.push_back(MakeRequest(r));
    return out;
  }

  std::unique_ptr<Model> model_;
  std::vector<Answer> alone_;
};

// Steps between two retracts: a recomputation takes more steps the smaller its chunks are.
int64_t RetractInterval(int64_t chunk) { return chunk == 1 ? 150 : chunk == 7 ? 20 : 4; }

TEST_P(EngineBits, SixteenMixedRequestsGetWhatEachGetsAlone) {
  for (const int64_t chunk : {1, 7, 64, 100, 1000})
    for (const int lanes : {1, 2})
      for (const int64_t interval : {int64_t{0}, RetractInterval(chunk)}) {
        int64_t retracted = 0;
        const auto together =
            RunTogether(*model_, All(),
                        {.chunk = chunk, .lanes = lanes, .retract_interval = interval}, &retracted);
        EXPECT_EQ(retracted > 0, interval > 0);
        for (int r = 0; r < kRequests; ++r) {
          SCOPED_TRACE(testing::Message() << "request " << r << " chunk " << chunk << " lanes "
                                          << lanes << " retract interval " << interval);
          ExpectSame(together[r], alone_[r]);
        }
      }
}

TEST_P(EngineBits, AloneInChunksWithAndWithoutRetracts) {
  for (const int r : {5, 7, 14})
    for (const int64_t chunk : {1, 7, 64, 100, 1000})
      for (const int lanes : {1, 2})
        for (const int64_t interval : {int64_t{0}, RetractInterval(chunk)}) {
          SCOPED_TRACE(testing::Message() << "request " << r << " chunk " << chunk << " lanes "
                                          << lanes << " retract interval " << interval);
          ExpectSame(RunTogether(*model_, {MakeRequest(r)},
                                 {.chunk = chunk, .lanes = lanes, .retract_interval = interval})[0],
                     alone_[r]);
        }
}

TEST_P(EngineBits, APromptLongerThanAThousandTokensInChunks) {
  CoreRequest request = MakeRequest(5);
  SplitMix64 random(9);
  request.prompt.resize(1100);
  for (int32_t& id : request.prompt) id = static_cast<int32_t>(random.Below(384));
  const Answer expected = RunTogether(*model_, {request}, {})[0];
  for (const int64_t chunk : {64, 100, 1000})
    ExpectSame(RunTogether(*model_, {request}, {.chunk = chunk, .retract_interval = 5})[0],
               expected);
}

TEST_P(EngineBits, AShortKvPoolRetractsAndChangesNothing) {
  std::vector<CoreRequest> requests = All();
  std::vector<Answer> expected;
  for (CoreRequest& request : requests) {
    request.sampling.ignore_eos = false;  // no exact futures: the estimate is too low
    request.sampling.max_new_tokens = 75;
    expected.push_back(RunTogether(*model_, {request}, {})[0]);
  }
  for (const int lanes : {1, 2}) {
    int64_t retracted = 0;
    const auto together =
        RunTogether(*model_, requests, {.chunk = 128, .lanes = lanes, .kv_pages = 12}, &retracted);
    // Where two lanes run ahead of each other, requests may end in time for the others.
    EXPECT_TRUE(retracted > 0 || lanes > 1);
    for (int r = 0; r < kRequests; ++r) {
      SCOPED_TRACE(testing::Message() << "request " << r << " lanes " << lanes);
      ExpectSame(together[r], expected[r]);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, EngineBits,
                         testing::Values("ling25", "ling20", "qwen3_moe", "qwen3_dense", "grok2"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace sluice
