#include "engine/lane_run.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

TEST(LaneRunTest, EveryLaneTakesItsStepsAndGoesOnWhileAnotherIsBehind) {
  LaneRun run(2, 2, 4, nullptr);
  EXPECT_TRUE(run.GoesOn(1));  // the first lane
  EXPECT_TRUE(run.GoesOn(2));  // has done its steps, the second has done none
  EXPECT_TRUE(run.GoesOn(3));
  EXPECT_FALSE(run.GoesOn(4));  // as far as it may
  EXPECT_TRUE(run.GoesOn(1));   // the second lane
  EXPECT_FALSE(run.GoesOn(2));  // nobody is behind it
}

TEST(LaneRunTest, ALaneThatRunsOutIsNotWaitedFor) {
  LaneRun run(2, 3, 9, nullptr);
  EXPECT_TRUE(run.GoesOn(1));
  run.RunsOut(1);
  EXPECT_TRUE(run.GoesOn(1));
  EXPECT_TRUE(run.GoesOn(2));
  EXPECT_FALSE(run.GoesOn(3));
}

TEST(LaneRunTest, RunningOutBeyondItsStepsCountsOnce) {
  LaneRun run(2, 2, 9, nullptr);
  EXPECT_TRUE(run.GoesOn(1));
  EXPECT_TRUE(run.GoesOn(2));
  run.RunsOut(2);
  EXPECT_TRUE(run.GoesOn(1));
  EXPECT_FALSE(run.GoesOn(2));
}

TEST(LaneRunTest, EndsEarlyWhenInterrupted) {
  std::atomic<bool> interrupt{false};
  LaneRun run(1, 5, 5, &interrupt);
  EXPECT_TRUE(run.GoesOn(1));
  interrupt = true;
  EXPECT_FALSE(run.GoesOn(2));
}

}  // namespace
}  // namespace sluice
