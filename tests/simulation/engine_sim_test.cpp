// A crowd of requests under random limits, cancels, memory pressure and retracts: every request's
// output equals its solo run, every request ends exactly once, in a bounded number of steps.
//   engine_sim_test --gtest_filter=EngineSimulation.*    1,000 seeds
//   SLUICE_SIM_SEED=17 SLUICE_SIM_SEEDS=1 engine_sim_test    one of them
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "base/log.h"
#include "base/random.h"
#include "engine/lane_shares.h"
#include "engine/step_engine.h"
#include "fake_model.h"

namespace sluice {
namespace {

constexpr int64_t kVocab = 64;
constexpr int64_t kContext = 1200;

struct Outcome {
  std::vector<int32_t> tokens;
  std::vector<PositionLogprobs> logprobs, prompt_logprobs;
  std::optional<CoreFinish> finish;
  int events_after_finish = 0;
};

/// One request of the crowd and when things happen to it.
struct Client {
  CoreRequest request;
  int64_t arrival_step = 0;
  int64_t cancel_step = -1;  // -1: never
  Outcome outcome;
};

void Record(std::vector<CoreEvent>& events) {
  for (CoreEvent& event : events) {
    auto& outcome = *static_cast<Outcome*>(event.owner);
    if (outcome.finish) ++outcome.events_after_finish;
    if (!event.prompt_logprobs.empty()) {
      EXPECT_TRUE(outcome.prompt_logprobs.empty());
      outcome.prompt_logprobs = std::move(event.prompt_logprobs);
    }
    if (event.token >= 0) outcome.tokens.push_back(event.token);
    if (event.logprobs) outcome.logprobs.push_back(std::move(*event.logprobs));
    if (event.finish) outcome.finish = std::move(event.finish);
  }
  events.clear();
}

int64_t Between(SplitMix64& random, int64_t low, int64_t high) {
  return low + static_cast<int64_t>(random.Below(high - low + 1));
}

bool Chance(SplitMix64& random, int percent) { return random.Below(100) < uint64_t(percent); }

CoreRequest RandomRequest(SplitMix64& random, int64_t capacity) {
  CoreRequest r;
  const int64_t longest = Chance(random, 10) ? 500 : Chance(random, 50) ? 130 : 20;
  r.prompt.resize(Between(random, 1, std::min(longest, capacity)));
  for (int32_t& id : r.prompt) id = static_cast<int32_t>(random.Below(kVocab));
  SamplingParams& s = r.sampling;
  s.max_new_tokens = Chance(random, 5) ? 0 : Between(random, 1, Chance(random, 30) ? 160 : 20);
  if (Chance(random, 50)) s.temperature = 0;
  if (Chance(random, 30)) s.top_p = 0.8;
  if (Chance(random, 30)) s.top_k = Between(random, 1, 20);
  if (Chance(random, 20)) s.repetition_penalty = 1.3;
  if (Chance(random, 20)) s.presence_penalty = 1.5;
  if (Chance(random, 20)) s.logit_bias = {{5, 3.0f}, {9, -50.0f}};
  if (Chance(random, 20)) s.min_new_tokens = Between(random, 0, *s.max_new_tokens);
  s.ignore_eos = Chance(random, 30);
  s.choice = static_cast<uint32_t>(random.Below(3));
  r.stop_ids = {1, 2};
  r.seed = random.Next();
  if (Chance(random, 30)) {
    r.logprobs.enabled = true;
    r.logprobs.top = static_cast<int32_t>(random.Below(4));
    r.logprobs.raw = Chance(random, 50);
    if (Chance(random, 60))
      r.logprobs.prompt_start = Between(random, 0, static_cast<int64_t>(r.prompt.size()) - 1);
  }
  return r;
}

StepEngineOptions RandomOptions(SplitMix64& random) {
  constexpr int64_t kChunks[] = {1, 7, 64, 100, 128, 1000, -1};
  StepEngineOptions o;
  o.context_length = kContext;
  o.limits.running_requests = Between(random, 1, 10);
  o.limits.chunk_tokens = kChunks[random.Below(std::size(kChunks))];
  o.limits.prefill_tokens = Chance(random, 30) ? Between(random, 1, 200) : 4096;
  o.limits.retract_interval = Chance(random, 25) ? Between(random, 1, 9) : 0;
  o.kv_pages = Chance(random, 60) ? Between(random, 2, 12) : Between(random, 12, 60);
  o.state_slots = Between(random, 1, 12);
  return o;
}

/// What a request should give: the model called directly, a token at a time, without any part of
/// the engine but the sampler.
class Soloist {
 public:
  Soloist(const FakeModel& model, Team& team)
      : model_(model),
        exec_{team, ThisMachine(), arena_},
        kv_(*KvPagePool::Create(model.cache_layout(), kPages)),
        recurrent_(*RecurrentPool::Create(model.cache_layout(), 1)),
        pages_(kPages) {
    for (int32_t& page : pages_) page = kv_.Allocate();
    recurrent_.Allocate();
  }

  Outcome Run(const CoreRequest& r) {
    Outcome out;
    std::vector<int32_t> tokens = r.prompt;
    const auto prompt_length = static_cast<int64_t>(r.prompt.size());
    const int64_t start = r.logprobs.enabled ? r.logprobs.prompt_start : -1;
    if (start >= 0) out.prompt_logprobs.push_back({.id = r.prompt[start]});
    TokenHistory history;
    history.AddPrompt(r.prompt);
    for (int64_t p = 0; !out.finish; ++p) {
      Advance(tokens, p, prompt_length);
      SamplingRow row;
      row.logits = logits_;
      PositionLogprobs report;
      row.report = &report;
      if (r.logprobs.enabled) row.logprobs = &r.logprobs;
      const bool in_prompt = p + 1 < prompt_length;
      if (in_prompt) {
        if (start < 0 || p < start) continue;
        row.target = r.prompt[p + 1];
      } else if (*r.sampling.max_new_tokens == 0) {
        out.finish = {.type = CoreFinish::Type::kLength};
        break;
      } else {
        row.params = &r.sampling;
        row.history = &history;
        if (static_cast<int64_t>(out.tokens.size()) < r.sampling.min_new_tokens)
          row.masked = r.stop_ids;
        row.seed = r.seed;
        row.position = p + 1;
      }
      SampleRows({&row, 1}, kVocab, exec_);
      if (row.fault != RowFault::kNone) {
        out.finish = {.type = CoreFinish::Type::kAbort,
                      .error = Error(row.fault == RowFault::kNotFinite ? Code::kNumericFault
                                                                       : Code::kInvalidArgument,
                                     "fault")};
        if (out.tokens.empty()) out.prompt_logprobs.clear();
      } else if (in_prompt) {
        out.prompt_logprobs.push_back(report);
      } else {
        Choose(r, row.token, report, tokens, history, out);
      }
    }
    return out;
  }

 private:
  static constexpr int64_t kPages = kContext / kPageTokens + 1;

  void Advance(const std::vector<int32_t>& tokens, int64_t p, int64_t prompt_length) {
    const auto position = static_cast<int32_t>(p);
    const SequenceStep sequence = {.slot = 0,
                                   .row_begin = 0,
                                   .row_count = 1,
                                   .position_begin = p,
                                   .prompt_length = prompt_length,
                                   .pages = pages_.data()};
    const int32_t output_row = 0;
    float hidden[5];
    model_.Forward({.tokens = {&tokens[p], 1},
                    .positions = {&position, 1},
                    .sequences = {&sequence, 1},
                    .output_rows = {&output_row, 1}},
                   {&kv_, &recurrent_}, {hidden, {1, 5}}, exec_);
    model_.Logits({hidden, {1, 5}}, {logits_, {1, kVocab}}, exec_);
  }

  static void Choose(const CoreRequest& r, int32_t token, const PositionLogprobs& report,
                     std::vector<int32_t>& tokens, TokenHistory& history, Outcome& out) {
    tokens.push_back(token);
    out.tokens.push_back(token);
    history.AddGenerated(token);
    if (r.logprobs.enabled) out.logprobs.push_back(report);
    const bool stops = std::ranges::count(r.stop_ids, token) > 0 && !r.sampling.ignore_eos;
    if (static_cast<int64_t>(out.tokens.size()) == *r.sampling.max_new_tokens)
      out.finish = {.type = CoreFinish::Type::kLength};
    else if (stops)
      out.finish = {.type = CoreFinish::Type::kStop, .matched_token = token};
  }

  const FakeModel& model_;
  Arena arena_{*Buffer::Allocate(SamplingScratchBytes(1, kVocab, 1), "scratch")};
  Exec exec_;
  KvPagePool kv_;
  RecurrentPool recurrent_;
  std::vector<int32_t> pages_;
  float logits_[kVocab];
};

/// How often each thing happened, over all seeds.
struct Coverage {
  int64_t steps = 0, retracts = 0, cancelled_waiting = 0, cancelled_running = 0, out_of_memory = 0,
          faults = 0, mixed_steps = 0;
  std::map<std::string, int> seeds_with;
};

class Simulation {
 public:
  explicit Simulation(uint64_t seed) : random_(seed), model_(kVocab), team_(seed % 8 == 0 ? 2 : 1) {
    if (Chance(random_, 20)) model_.poison_token = 11;
    options_ = RandomOptions(random_);
    const int64_t count = Between(random_, 1, Chance(random_, 20) ? 40 : 14);
    const int cancel_percent = Chance(random_, 20) ? 60 : 10;  // a cancel storm now and then
    clients_.resize(count);
    for (Client& c : clients_) {
      c.request = RandomRequest(random_, options_.kv_pages * kPageTokens);
      c.arrival_step = Chance(random_, 50) ? 0 : Between(random_, 0, 60);
      if (Chance(random_, cancel_percent)) c.cancel_step = c.arrival_step + Between(random_, 0, 40);
    }
    std::ranges::stable_sort(clients_, {}, &Client::arrival_step);
    for (size_t i = 0; i < clients_.size(); ++i) {
      clients_[i].request.key = i + 1;
      clients_[i].request.owner = &clients_[i].outcome;
    }
  }

  void Run(Coverage& coverage) {
    auto engine = *StepEngine::Create(model_, options_, team_, ThisMachine());
    std::vector<CoreEvent> events;
    size_t arrived = 0;
    int64_t step = 0;
    for (;; ++step) {
      ASSERT_LT(step, StepBound()) << "no progress";
      for (; arrived < clients_.size() && clients_[arrived].arrival_step <= step; ++arrived)
        engine->Add(clients_[arrived].request);
      for (const Client& c : clients_)
        if (c.cancel_step == step) Cancel(*engine, c, events, coverage);
      const bool stepped = engine->Step(events);
      Record(events);
      ASSERT_LE(engine->scheduler().running(), options_.limits.running_requests);
      if (!stepped && arrived == clients_.size()) break;
    }
    EXPECT_EQ(engine->scheduler().pages_used(), 0);
    EXPECT_EQ(engine->scheduler().slots_used(), 0);
    coverage.steps += step;
    coverage.retracts += engine->counters().retracted;
    if (engine->counters().retracted > 0) ++coverage.seeds_with["retract"];
    if (engine->counters().aborted > 0) ++coverage.seeds_with["abort"];
  }

  void CompareWithSoloRuns(Coverage& coverage) {
    for (const Client& c : clients_) {
      const Outcome solo = RunAlone(c.request);
      SCOPED_TRACE("request " + std::to_string(c.request.key));
      ASSERT_TRUE(c.outcome.finish.has_value());
      EXPECT_EQ(c.outcome.events_after_finish, 0);
      const bool cut = c.outcome.finish->type == CoreFinish::Type::kAbort &&
                       (c.outcome.finish->error.code() == Code::kCancelled ||
                        c.outcome.finish->error.code() == Code::kOutOfMemory);
      if (cut) {
        if (c.outcome.finish->error.code() == Code::kOutOfMemory) CheckOutOfMemory(c, coverage);
        ASSERT_LE(c.outcome.tokens.size(), solo.tokens.size());
      } else {
        EXPECT_EQ(c.outcome.finish->type, solo.finish->type);
        EXPECT_EQ(c.outcome.finish->error.code(), solo.finish->error.code());
        EXPECT_EQ(c.outcome.finish->matched_token, solo.finish->matched_token);
        ASSERT_EQ(c.outcome.tokens.size(), solo.tokens.size());
        EXPECT_EQ(c.outcome.prompt_logprobs.size(), solo.prompt_logprobs.size());
        if (solo.finish->error.code() == Code::kNumericFault) ++coverage.faults;
      }
      EXPECT_TRUE(
          std::equal(c.outcome.tokens.begin(), c.outcome.tokens.end(), solo.tokens.begin()));
      CompareLogprobs(c.outcome.logprobs, solo.logprobs);
      CompareLogprobs(c.outcome.prompt_logprobs, solo.prompt_logprobs);
    }
  }

 private:
  // A step a chunk of every prompt and a step a token, each perhaps again after each retract.
  int64_t StepBound() const {
    int64_t tokens = 0;
    for (const Client& c : clients_)
      tokens += static_cast<int64_t>(c.request.prompt.size()) + *c.request.sampling.max_new_tokens;
    return 200 + 40 * tokens;
  }

  void Cancel(StepEngine& engine, const Client& c, std::vector<CoreEvent>& events,
              Coverage& coverage) {
    const int64_t waiting = engine.scheduler().waiting();
    const bool ended = c.outcome.finish.has_value();
    const bool found = engine.Cancel(c.request.key, Status(Code::kCancelled, "test"), events);
    EXPECT_EQ(found, !ended);
    EXPECT_FALSE(engine.Cancel(c.request.key, Status(Code::kCancelled, "twice"), events));
    if (!found) return;
    ++(engine.scheduler().waiting() < waiting ? coverage.cancelled_waiting
                                              : coverage.cancelled_running);
    ++coverage.seeds_with["cancel"];
  }

  // Only what alone needs more pages than there are may end for want of memory.
  void CheckOutOfMemory(const Client& c, Coverage& coverage) {
    ++coverage.out_of_memory;
    EXPECT_GT(static_cast<int64_t>(c.request.prompt.size() + c.outcome.tokens.size()),
              options_.kv_pages * kPageTokens);
  }

  Outcome RunAlone(const CoreRequest& request) { return Soloist(model_, alone_).Run(request); }

  static void CompareLogprobs(const std::vector<PositionLogprobs>& actual,
                              const std::vector<PositionLogprobs>& expected) {
    ASSERT_LE(actual.size(), expected.size());
    for (size_t i = 0; i < actual.size(); ++i) {
      EXPECT_EQ(actual[i].id, expected[i].id);
      EXPECT_EQ(actual[i].logprob, expected[i].logprob);  // bits: no NaN in here
      ASSERT_EQ(actual[i].top.size(), expected[i].top.size());
      for (size_t j = 0; j < actual[i].top.size(); ++j) {
        EXPECT_EQ(actual[i].top[j].id, expected[i].top[j].id);
        EXPECT_EQ(actual[i].top[j].logprob, expected[i].top[j].logprob);
      }
    }
  }

  SplitMix64 random_;
  FakeModel model_;
  Team team_;  // of two lanes now and then: they share the sequences of a step
  Team alone_{1};
  StepEngineOptions options_;
  std::vector<Client> clients_;
};

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? std::atoll(value) : otherwise;
}

TEST(EngineSimulation, ACrowdGetsWhatEachGetsAlone) {
  log::SetLevel(log::Level::kOff);
  const int64_t first = FromEnvironment("SLUICE_SIM_SEED", 0);
  const int64_t seeds = FromEnvironment("SLUICE_SIM_SEEDS", 1000);
  Coverage coverage;
  for (int64_t seed = first; seed < first + seeds && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("SLUICE_SIM_SEED=" + std::to_string(seed));
    Simulation simulation(seed);
    simulation.Run(coverage);
    if (!testing::Test::HasFatalFailure()) simulation.CompareWithSoloRuns(coverage);
  }
  std::printf(
      "%ld steps, %ld retracts, %ld+%ld cancels waiting+running, %ld out of memory, "
      "%ld numeric faults\n",
      coverage.steps, coverage.retracts, coverage.cancelled_waiting, coverage.cancelled_running,
      coverage.out_of_memory, coverage.faults);
  if (seeds < 1000) return;
  // Each kind of event in a fair share of the runs, or the generator has a blind spot.
  EXPECT_GE(coverage.seeds_with["retract"], 200);
  EXPECT_GE(coverage.seeds_with["cancel"], 300);
  EXPECT_GE(coverage.cancelled_waiting, 100);
  EXPECT_GE(coverage.cancelled_running, 100);
  EXPECT_GE(coverage.out_of_memory, 10);
  EXPECT_GE(coverage.faults, 100);
}

// Lanes that hold all of a small model take many decode steps before they meet; whoever arrives or
// leaves ends that.
TEST(EngineSimulation, LanesTakeManyStepsUnlessInterrupted) {
  const FakeModel model(kVocab);
  Team team(2);
  StepEngineOptions options;
  options.context_length = kContext;
  options.limits.running_requests = options.state_slots = 4;
  options.kv_pages = 60;
  const auto engine = *StepEngine::Create(model, options, team, ThisMachine());
  Outcome outcomes[4];
  for (uint64_t i = 0; i < 4; ++i) {
    CoreRequest r;
    r.key = i + 1;
    r.prompt.assign(10 + i, 3);
    r.sampling.max_new_tokens = 200;
    r.sampling.ignore_eos = true;
    r.owner = &outcomes[i];
    engine->Add(std::move(r));
  }
  std::vector<CoreEvent> events;
  const auto step = [&](const std::atomic<bool>* interrupt) {
    EXPECT_TRUE(engine->Step(events, interrupt));
    Record(events);
  };
  const std::atomic<bool> interrupted{true}, not_interrupted{false};
  step(&interrupted);  // the prompts
  step(&interrupted);
  for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.tokens.size(), 2u);
  EXPECT_EQ(engine->counters().steps, 2);
  step(&not_interrupted);
  int64_t longest = 0;
  for (const Outcome& outcome : outcomes) {
    EXPECT_GE(outcome.tokens.size(), 2u + kLaneSteps);
    EXPECT_LE(outcome.tokens.size(), 2u + kLaneStepsMax);
    longest = std::max(longest, static_cast<int64_t>(outcome.tokens.size()));
  }
  EXPECT_EQ(engine->counters().steps, longest);
}

}  // namespace
}  // namespace sluice
