#include "engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

/// A scheduler over pools without bytes, and a stand-in for the executor.
class SchedulerTest : public testing::Test {
 protected:
  void Make(SchedulerLimits limits, int64_t pages, int64_t slots) {
    kv_ = *KvPagePool::Create({}, pages);
    recurrent_ = *RecurrentPool::Create({}, slots);
    scheduler_ = std::make_unique<Scheduler>(limits, kv_, recurrent_);
  }

  uint64_t Add(int64_t prompt, int64_t max_new, bool ignore_eos = false) {
    CoreRequest in;
    in.key = ++last_key_;
    in.prompt.assign(prompt, 7);
    in.sampling.max_new_tokens = max_new;
    in.sampling.ignore_eos = ignore_eos;
    scheduler_->Add(std::make_unique<Request>(std::move(in)));
    return last_key_;
  }

  using Work = std::vector<std::pair<uint64_t, int64_t>>;  // key, tokens

  /// Plans a step and pretends to run it; requests end at max_new.
  Work Step() {
    const StepPlan& plan = scheduler_->Plan();
    retracted_ += plan.retracted;
    Work work;
    std::vector<Request*> ended;
    for (Request* request : plan.too_large) too_large_.push_back(request->in.key);
    for (Request* request : plan.too_large) scheduler_->Remove(request);
    for (const StepItem& item : plan.items) {
      work.emplace_back(item.request->in.key, item.token_count);
      item.request->computed += item.token_count;
      if (!item.is_last) continue;
      if (item.request->new_tokens_max() > 0) item.request->tokens.push_back(1);
      if (item.request->generated() >= item.request->new_tokens_max())
        ended.push_back(item.request);
    }
    for (Request* request : ended) {
      ended_.push_back(request->in.key);
      scheduler_->Remove(request);
    }
    scheduler_->CheckLedger();
    return work;
  }

  void RunToTheEnd(int steps_max) {
    for (int i = 0; scheduler_->Any() != nullptr; ++i) {
      ASSERT_LT(i, steps_max);
      Step();
    }
    EXPECT_EQ(scheduler_->pages_used(), 0);
    EXPECT_EQ(scheduler_->slots_used(), 0);
  }

  KvPagePool kv_;
  RecurrentPool recurrent_;
  std::unique_ptr<Scheduler> scheduler_;
  uint64_t last_key_ = 0;
  int64_t retracted_ = 0;
  std::vector<uint64_t> ended_, too_large_;
};

TEST_F(SchedulerTest, MixesDecodeAndPromptsInOneStep) {
  Make({.running_requests = 4, .chunk_tokens = 128}, 100, 4);
  Add(10, 5);
  EXPECT_THAT(Step(), ElementsAre(Pair(1, 10)));
  Add(100, 5);
  Add(20, 5);
  EXPECT_THAT(Step(), ElementsAre(Pair(1, 1), Pair(2, 100), Pair(3, 20)));
  EXPECT_THAT(Step(), ElementsAre(Pair(1, 1), Pair(2, 1), Pair(3, 1)));
}

TEST_F(SchedulerTest, PlansSeveralDecodeStepsAtOnceWithPagesForAll) {
  Make({.running_requests = 2, .run_steps = 8}, 5, 2);
  Add(60, 20);
  Add(10, 5);
  EXPECT_EQ(scheduler_->Plan().steps, 1);  // prompts
  Step();                                  // plans them again
  EXPECT_EQ(scheduler_->Plan().steps, 8);
  EXPECT_EQ(scheduler_->pages_used(), 2 + 1);  // 61 + 7 tokens, 11 + 7
  Add(5, 3);  // may start when the second has ended, 4 tokens from here
  EXPECT_EQ(scheduler_->Plan().steps, 4);
  for (int i = 0; i < 4; ++i) Step();
  EXPECT_THAT(ended_, ElementsAre(2));
  EXPECT_EQ(scheduler_->Plan().prefill_requests, 1);
  EXPECT_EQ(scheduler_->Plan().steps, 1);
  RunToTheEnd(50);
}

TEST_F(SchedulerTest, PlansNoMoreStepsThanAnyoneHasTokensLeftOrPagesAllow) {
  Make({.running_requests = 2, .run_steps = 8}, 2, 2);
  Add(30, 4);
  Add(60, 4);
  Step();
  EXPECT_EQ(scheduler_->Plan().steps, 3);
  Step();
  EXPECT_EQ(scheduler_->Plan().steps, 2);
  RunToTheEnd(10);
  Make({.running_requests = 2, .run_steps = 8}, 1, 2);
  Add(60, 30);
  Step();
  EXPECT_EQ(scheduler_->Plan().steps, 1);  // 61 tokens and 7 more need a second page
}

TEST_F(SchedulerTest, StepsBeyondARequestsEndNeedNoPages) {
  Make({.running_requests = 2, .run_steps = 8}, 2, 2);
  Add(20, 30);
  Add(60, 4);
  Step();
  EXPECT_EQ(scheduler_->Plan().steps, 8);
  EXPECT_EQ(scheduler_->pages_used(), 2);
}

TEST_F(SchedulerTest, CutsAPromptAtPagesAndContinuesItFirst) {
  Make({.running_requests = 4, .chunk_tokens = 256}, 100, 4);
  Add(100, 5);
  Add(300, 5);
  Add(10, 5);
  // 156 are left of the budget: 128 on the page grid; the third waits behind the second.
  EXPECT_THAT(Step(), ElementsAre(Pair(1, 100), Pair(2, 128)));
  EXPECT_THAT(Step(), ElementsAre(Pair(1, 1), Pair(2, 172), Pair(3, 10)));
}

TEST_F(SchedulerTest, CutsOddChunksExactly) {
  Make({.running_requests = 4, .chunk_tokens = 7}, 100, 4);
  Add(10, 2);
  EXPECT_THAT(Step(), ElementsAre(Pair(1, 7)));
  EXPECT_THAT(Step(), ElementsAre(Pair(1, 3)));
  EXPECT_THAT(Step(), ElementsAre(Pair(1, 1)));
}

TEST_F(SchedulerTest, WithoutChunksTheFirstPromptMayExceedTheBudget) {
  Make({.running_requests = 4, .chunk_tokens = -1, .prefill_tokens = 100}, 100, 4);
  Add(500, 5);
  Add(90, 5);
  Add(20, 5);
  EXPECT_THAT(Step(), ElementsAre(Pair(1, 500)));
  EXPECT_THAT(Step(), ElementsAre(Pair(1, 1), Pair(2, 90)));
  EXPECT_THAT(Step(), ElementsAre(Pair(1, 1), Pair(2, 1), Pair(3, 20)));
}

TEST_F(SchedulerTest, AdmitsUpToRunningRequestsAndSlots) {
  Make({.running_requests = 3}, 100, 2);
  for (int i = 0; i < 4; ++i) Add(5, 2);
  EXPECT_THAT(Step(), ElementsAre(Pair(1, 5), Pair(2, 5)));
  EXPECT_EQ(scheduler_->waiting(), 2);
  Make({.running_requests = 3}, 100, 9);
  for (int i = 0; i < 4; ++i) Add(5, 2);
  EXPECT_EQ(Step().size(), 3u);
}

TEST_F(SchedulerTest, NobodyOvertakesARequestThatDoesNotFitYet) {
  Make({.running_requests = 4}, 10, 4);
  Add(320, 10);  // 5 pages, and one for what it may generate
  Step();
  Add(320, 10);  // does not fit beside it
  Add(5, 1);     // would
  EXPECT_THAT(Step(), ElementsAre(Pair(1, 1)));
  RunToTheEnd(50);
  EXPECT_THAT(ended_, ElementsAre(1, 3, 2));  // 2 and 3 were admitted together
}

TEST_F(SchedulerTest, SetsAsideAShareOfWhatRunningRequestsMayStillGenerate) {
  Make({.running_requests = 4}, 16, 4);
  Add(64, 64 * 20);  // 15 pages, if it uses 70 % of what it may
  Step();
  EXPECT_DOUBLE_EQ(scheduler_->new_token_ratio(), 0.7);
  Add(64, 64 * 3);  // 4 pages
  EXPECT_EQ(Step().size(), 1u);
  // 300 decode steps later the estimate is 40 %: 12 pages and 3.
  for (int i = 0; i < 300; ++i) Step();
  EXPECT_EQ(scheduler_->running(), 2);
}

TEST_F(SchedulerTest, KnowsWhenRequestsThatIgnoreEosEnd) {
  Make({.running_requests = 4}, 4, 4);
  Add(60, 60, true);  // 1 page, then 2, gone after 60 tokens
  Step();
  Add(64, 129, true);  // 1 page, then 2, 3 and 4: by then the first has gone
  EXPECT_EQ(Step().size(), 2u);
  RunToTheEnd(200);
  EXPECT_EQ(retracted_, 0);
  // With ends that come together there is no room for both.
  Make({.running_requests = 4}, 4, 4);
  Add(64, 129, true);
  Step();
  Add(64, 129, true);
  EXPECT_EQ(Step().size(), 1u);
}

TEST_F(SchedulerTest, RetractsTheOneWithTheFewestTokensToTheFront) {
  Make({.running_requests = 8}, 5, 8);
  const uint64_t first = Add(62, 100);
  Step();
  Step();
  Add(60, 3);
  Add(61, 3);  // as few tokens as 2, and a longer prompt
  Step();
  ASSERT_EQ(scheduler_->running(), 3);
  const uint64_t waiting = Add(64 * 5, 1);
  // Request 1 writes on into its second page; 2 and 3 follow. Nothing is short yet.
  Step();
  EXPECT_EQ(retracted_, 0);
  RunToTheEnd(300);
  EXPECT_THAT(ended_, ElementsAre(2, 3, first, waiting));
}

TEST_F(SchedulerTest, ARetractedRequestKeepsItsTokensAndComesBackFirst) {
  Make({.running_requests = 8}, 4, 8);
  Add(56, 11);   // 1 page, and one more from its 9th token on
  Add(120, 11);  // 2 pages, and one more from its 9th token on: 70 % were expected
  Step();
  const uint64_t late = Add(150, 1);  // 3 pages: waits
  for (int i = 0; i < 20 && retracted_ == 0; ++i) Step();
  ASSERT_EQ(retracted_, 1);
  Request* second = scheduler_->Find(2);  // the longer prompt of two with as many new tokens
  EXPECT_EQ(second->computed, 0);
  EXPECT_EQ(second->generated(), 9);
  EXPECT_THAT(second->pages, IsEmpty());
  EXPECT_EQ(second->slot, -1);
  Work work;
  for (int i = 0; i < 20 && second->slot < 0; ++i) work = Step();
  EXPECT_THAT(work, testing::Contains(Pair(2, 129)));
  EXPECT_EQ(second->prompt_length(), 120);
  EXPECT_EQ(scheduler_->Find(late)->slot, -1);  // still behind it
  RunToTheEnd(300);
  EXPECT_THAT(ended_, ElementsAre(1, 2, late));
}

TEST_F(SchedulerTest, TheLastOneThatDoesNotFitIsTooLarge) {
  Make({.running_requests = 2}, 2, 2);
  Add(100, 1000);
  RunToTheEnd(100);
  EXPECT_THAT(too_large_, ElementsAre(1));
  EXPECT_THAT(ended_, IsEmpty());
}

TEST_F(SchedulerTest, ARetractedRequestThatOutgrewThePoolIsTooLarge) {
  Make({.running_requests = 2}, 2, 2);
  Add(64, 1000);
  Add(60, 1000);  // one page each; whoever stays needs both, then more than there are
  RunToTheEnd(400);
  EXPECT_THAT(too_large_, testing::UnorderedElementsAre(1, 2));
}

TEST_F(SchedulerTest, ForcedRetractsStillEnd) {
  for (const int64_t interval : {1, 2, 7}) {
    Make({.running_requests = 4, .chunk_tokens = 7, .retract_interval = interval}, 50, 4);
    ended_.clear();
    retracted_ = 0;
    for (int i = 0; i < 6; ++i) Add(20, 6);
    RunToTheEnd(2000);
    EXPECT_EQ(ended_.size(), 6u);
    EXPECT_GT(retracted_, 0);
  }
}

TEST_F(SchedulerTest, RemovesFromQueueAndFromRunning) {
  Make({.running_requests = 1}, 10, 1);
  Add(100, 5);
  Add(100, 5);
  Step();
  EXPECT_EQ(scheduler_->pages_used(), 2);
  EXPECT_EQ(scheduler_->Remove(scheduler_->Find(2))->in.key, 2u);
  EXPECT_EQ(scheduler_->Remove(scheduler_->Find(1))->in.key, 1u);
  EXPECT_EQ(scheduler_->Find(1), nullptr);
  EXPECT_EQ(scheduler_->pages_used(), 0);
  EXPECT_THAT(Step(), IsEmpty());
}

TEST(SchedulerLimits, StepRowsCoversTheLargestStep) {
  EXPECT_EQ((SchedulerLimits{.running_requests = 8, .chunk_tokens = 512}).StepRows(4096), 520);
  EXPECT_EQ((SchedulerLimits{.running_requests = 8, .chunk_tokens = -1, .prefill_tokens = 100})
                .StepRows(4096),
            4104);
  EXPECT_EQ((SchedulerLimits{.running_requests = 2, .chunk_tokens = 4096}).StepRows(100), 202);
}

}  // namespace
}  // namespace sluice
