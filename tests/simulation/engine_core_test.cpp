// The engine's thread: every request ends once, whatever happens and whenever.
#include "engine/engine_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <condition_variable>
#include <map>
#include <thread>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "fake_model.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;

struct Heard {
  int tokens = 0, ends = 0, after_end = 0;
  CoreFinish finish;
};

class EngineCoreTest : public testing::Test {
 protected:
  void SetUp() override { log::SetLevel(log::Level::kOff); }
  void TearDown() override { core_.reset(); }

  void Start(StepEngineOptions options, int64_t queued = 1000) {
    options.context_length = 4096;
    options.state_slots = options.limits.running_requests;
    if (options.kv_pages == 0) options.kv_pages = 64;
    auto engine = *StepEngine::Create(model_, options, team_, ThisMachine());
    core_ = std::make_unique<EngineCore>(std::move(engine),
                                         EngineCoreOptions{.queued_requests = queued},
                                         [this](std::vector<CoreEvent>& events) { Hear(events); });
  }

  void Hear(std::vector<CoreEvent>& events) {
    const std::lock_guard lock(mutex_);
    for (CoreEvent& event : events) {
      Heard& heard = heard_[reinterpret_cast<uintptr_t>(event.owner)];
      heard.after_end += heard.ends;
      heard.tokens += event.token >= 0;
      if (!event.finish) continue;
      ++heard.ends;
      heard.finish = std::move(*event.finish);
    }
    changed_.notify_all();
  }

  Result<uint64_t> Submit(uintptr_t name, int64_t prompt, int64_t max_new,
                          double admit_by_seconds = 0) {
    CoreRequest request;
    request.prompt.assign(prompt, static_cast<int32_t>(name % 50));
    request.sampling.max_new_tokens = max_new;
    request.sampling.ignore_eos = true;
    request.seed = name;
    request.owner = reinterpret_cast<void*>(name);
    request.admit_by_seconds = admit_by_seconds;
    return core_->Submit(std::move(request));
  }

  template <class Condition>
  void WaitFor(Condition condition) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(changed_.wait_for(lock, 20s, condition));
  }
  void WaitForEnd(uintptr_t name) {
    WaitFor([&] { return heard_[name].ends > 0; });
  }

  void ExpectAllFree() {
    const StepCounters counters = core_->counters();
    EXPECT_EQ(counters.kv_tokens_used, 0);
    EXPECT_EQ(counters.slots_used, 0);
    EXPECT_EQ(core_->live(), 0);
  }

  FakeModel model_;
  Team team_{2};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<uintptr_t, Heard> heard_;
  std::unique_ptr<EngineCore> core_;
};

TEST_F(EngineCoreTest, AnswersAndSleeps) {
  Start({.limits = {.running_requests = 4}});
  for (uintptr_t name = 1; name <= 6; ++name) ASSERT_TRUE(Submit(name, 10, 5).ok());
  for (uintptr_t name = 1; name <= 6; ++name) WaitForEnd(name);
  for (const auto& [name, heard] : heard_) {
    EXPECT_EQ(heard.tokens, 5);
    EXPECT_EQ(heard.finish.type, CoreFinish::Type::kLength);
  }
  ExpectAllFree();
  std::this_thread::sleep_for(20ms);  // lanes spin for a moment before they sleep
  const auto processor_ms = [] {
    timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
  };
  const double before = processor_ms();
  std::this_thread::sleep_for(300ms);
  EXPECT_LT(processor_ms() - before, 15);
  ASSERT_TRUE(Submit(7, 3, 2).ok());  // and wakes
  WaitForEnd(7);
}

TEST_F(EngineCoreTest, CancelsInTheQueueBetweenChunksAndInDecode) {
  model_.step_us = 500;
  Start({.limits = {.running_requests = 1, .chunk_tokens = 1}});
  const uint64_t chunked = *Submit(1, 3000, 10);
  const uint64_t queued = *Submit(2, 5, 10);
  while (core_->counters().steps < 5) std::this_thread::sleep_for(1ms);
  core_->Cancel(queued, Status(Code::kCancelled, "in the queue"));
  WaitForEnd(2);
  EXPECT_EQ(core_->counters().running, 1);
  core_->Cancel(chunked, Status(Code::kCancelled, "between chunks"));
  core_->Cancel(chunked, Status(Code::kCancelled, "twice"));
  WaitForEnd(1);
  const uint64_t decoding = *Submit(3, 2, 1000);
  WaitFor([&] { return heard_[3].tokens >= 3; });
  core_->Cancel(decoding, Status(Code::kCancelled, "in decode"));
  WaitForEnd(3);
  for (const auto& [name, heard] : heard_) {
    EXPECT_EQ(heard.ends, 1);
    EXPECT_EQ(heard.after_end, 0);
    EXPECT_EQ(heard.finish.error.code(), Code::kCancelled);
  }
  EXPECT_EQ(heard_[1].finish.error.message(), "between chunks");
  EXPECT_EQ(heard_[2].tokens + heard_[1].tokens, 0);
  ExpectAllFree();
}

TEST_F(EngineCoreTest, RefusesWhenTheQueueIsFullAndTakesMoreLater) {
  model_.step_us = 2000;
  Start({.limits = {.running_requests = 1}}, 2);
  for (uintptr_t name = 1; name <= 3; ++name) ASSERT_TRUE(Submit(name, 5, 20).ok());
  EXPECT_EQ(Submit(4, 5, 20).status().code(), Code::kQueueFull);
  WaitForEnd(1);
  WaitFor([&] { return core_->live() < 3; });
  EXPECT_TRUE(Submit(5, 5, 1).ok());
}

TEST_F(EngineCoreTest, ARequestThatWaitsTooLongEndsWithAQueueTimeout) {
  model_.step_us = 2000;
  Start({.limits = {.running_requests = 1}});
  ASSERT_TRUE(Submit(1, 5, 100).ok());
  WaitFor([&] { return heard_[1].tokens >= 1; });
  ASSERT_TRUE(Submit(2, 5, 10, MonotonicSeconds() + 0.02).ok());
  ASSERT_TRUE(Submit(3, 5, 10, MonotonicSeconds() + 1000).ok());
  int meanwhile = 0;
  WaitFor([&] {
    meanwhile = heard_[1].tokens;
    return heard_[2].ends > 0;
  });
  EXPECT_EQ(heard_[2].finish.error.code(), Code::kQueueTimeout);
  EXPECT_THAT(heard_[2].finish.error.message(), testing::HasSubstr("max-queue-seconds"));
  EXPECT_LT(meanwhile, 100);  // the first still ran
  WaitForEnd(3);
  EXPECT_EQ(heard_[1].tokens, 100);
  EXPECT_EQ(heard_[3].tokens, 10);
  ExpectAllFree();
}

TEST_F(EngineCoreTest, SaysHowLongTheStepAtHandHasRun) {
  model_.step_us = 50'000;
  Start({.limits = {.running_requests = 1}});
  EXPECT_EQ(core_->current_step_seconds(), 0);
  ASSERT_TRUE(Submit(1, 5, 3).ok());
  while (core_->current_step_seconds() < 0.01) std::this_thread::sleep_for(1ms);
  WaitForEnd(1);
  while (core_->current_step_seconds() > 0) std::this_thread::sleep_for(1ms);
}

TEST_F(EngineCoreTest, RefusesAPromptThatCanNeverFit) {
  Start({.limits = {.running_requests = 1}, .kv_pages = 2});
  const Status status = Submit(1, 129, 1).status();
  EXPECT_EQ(status.code(), Code::kContextLength);
  EXPECT_THAT(status.message(),
              testing::AllOf(testing::HasSubstr("129"), testing::HasSubstr("128")));
  ASSERT_TRUE(Submit(2, 128, 1).ok());
  WaitForEnd(2);
}

TEST_F(EngineCoreTest, DrainingRefusesNewRequestsAndFinishesTheOthers) {
  model_.step_us = 500;
  Start({.limits = {.running_requests = 2}});
  ASSERT_TRUE(Submit(1, 5, 20).ok());
  core_->Drain();
  EXPECT_EQ(Submit(2, 5, 20).status().code(), Code::kDraining);
  WaitForEnd(1);
  EXPECT_EQ(heard_[1].tokens, 20);
}

TEST_F(EngineCoreTest, DestructionEndsEverythingOnce) {
  model_.step_us = 500;
  Start({.limits = {.running_requests = 2}});
  for (uintptr_t name = 1; name <= 8; ++name) ASSERT_TRUE(Submit(name, 500, 1000).ok());
  core_.reset();
  EXPECT_EQ(heard_.size(), 8u);
  for (const auto& [name, heard] : heard_) {
    EXPECT_EQ(heard.ends, 1);
    EXPECT_EQ(heard.finish.error.code(), Code::kDraining);
  }
}

TEST_F(EngineCoreTest, AnExceptionEndsRequestsAndRefusesNewOnes) {
  model_.throw_at_step = 3;
  model_.step_us = 20'000;  // the exception comes after all four are in
  Start({.limits = {.running_requests = 2}});
  for (uintptr_t name = 1; name <= 4; ++name) ASSERT_TRUE(Submit(name, 5, 100).ok());
  for (uintptr_t name = 1; name <= 4; ++name) WaitForEnd(name);
  for (const auto& [name, heard] : heard_) {
    EXPECT_EQ(heard.ends, 1);
    EXPECT_EQ(heard.finish.error.code(), Code::kInternal);
  }
  EXPECT_EQ(Submit(5, 5, 5).status().code(), Code::kInternal);
}

TEST_F(EngineCoreTest, ANumericFaultEndsOneRequestOnly) {
  model_.poison_token = 3;
  Start({.limits = {.running_requests = 4}});
  ASSERT_TRUE(Submit(3, 5, 5).ok());  // its prompt is made of token 3
  ASSERT_TRUE(Submit(4, 5, 1).ok());
  WaitForEnd(3);
  WaitForEnd(4);
  EXPECT_EQ(heard_[3].finish.error.code(), Code::kNumericFault);
  EXPECT_THAT(heard_[3].finish.error.message(), testing::HasSubstr("id 7"));
  EXPECT_EQ(heard_[4].finish.type, CoreFinish::Type::kLength);
  ExpectAllFree();
  EXPECT_EQ(core_->counters().numeric_faults, 1);
  EXPECT_EQ(core_->counters().third_last_fault_monotonic, 0);
  const double before = MonotonicSeconds();
  for (const uintptr_t name : {53, 103}) {  // of token 3 as well
    ASSERT_TRUE(Submit(name, 5, 5).ok());
    WaitForEnd(name);
  }
  EXPECT_EQ(core_->counters().numeric_faults, 3);
  EXPECT_GT(core_->counters().third_last_fault_monotonic, 0);
  EXPECT_LT(core_->counters().third_last_fault_monotonic, before);
}

TEST_F(EngineCoreTest, AThousandCancelsAtRandomMoments) {
  Start({.limits = {.running_requests = 8, .chunk_tokens = 64}, .kv_pages = 24}, 5000);
  SplitMix64 random(3);
  constexpr uintptr_t kRequests = 1000;
  for (uintptr_t name = 1; name <= kRequests; ++name) {
    const auto key = Submit(name, 1 + static_cast<int64_t>(random.Below(200)),
                            1 + static_cast<int64_t>(random.Below(100)));
    ASSERT_TRUE(key.ok()) << key.status().message();
    if (random.Below(4) == 0)
      std::this_thread::sleep_for(std::chrono::microseconds(random.Below(200)));
    if (name > 20) core_->Cancel(*key - random.Below(20), Status(Code::kCancelled, "random"));
    core_->Cancel(*key, Status(Code::kCancelled, "random"));
    if (random.Below(10) == 0) core_->counters();
  }
  WaitFor([&] {
    int ends = 0;
    for (const auto& [name, heard] : heard_) ends += heard.ends;
    return ends == kRequests;
  });
  for (const auto& [name, heard] : heard_) {
    EXPECT_EQ(heard.ends, 1);
    EXPECT_EQ(heard.after_end, 0);
  }
  ExpectAllFree();
}

}  // namespace
}  // namespace sluice
