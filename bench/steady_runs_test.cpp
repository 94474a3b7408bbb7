#include "bench/steady_runs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::bench {
namespace {

using testing::ElementsAre;

// Ceilings from a list, the last one for ever.
std::function<Ceilings()> From(std::vector<Ceilings> list) {
  return [list, next = size_t{0}]() mutable { return list[std::min(next++, list.size() - 1)]; };
}

double Index(int i) { return i; }

TEST(SteadyRuns, KeepsEveryRunWhileTheCeilingsStandStill) {
  const SteadyRuns runs = RunBesideCeilings(3, From({{100, 10}, {105, 10.5}, {98, 10}}), Index);
  EXPECT_THAT(runs.seconds, ElementsAre(0, 1, 2));
  EXPECT_EQ(runs.rejected, 0);
  EXPECT_TRUE(runs.steady);
  EXPECT_DOUBLE_EQ(runs.ceilings[0].flops, 102.5);
  EXPECT_DOUBLE_EQ(runs.ceilings[0].bytes, 10.25);
}

TEST(SteadyRuns, RepeatsARunBesideWhichEitherCeilingMoved) {
  // Run 0: flops rise by 12 %; run 1: bytes fall by 20 %.
  const SteadyRuns runs = RunBesideCeilings(2, From({{100, 10}, {112, 10}, {112, 8}}), Index);
  EXPECT_THAT(runs.seconds, ElementsAre(2, 3));
  EXPECT_THAT(runs.indices, ElementsAre(2, 3));
  EXPECT_EQ(runs.rejected, 2);
  EXPECT_TRUE(runs.steady);
}

TEST(SteadyRuns, EndsOnAMachineThatIsNeverSteadyAndSaysSo) {
  int calls = 0;
  const auto wild = [&] { return Ceilings{++calls % 2 ? 100.0 : 50.0, 10}; };
  const SteadyRuns runs = RunBesideCeilings(3, wild, Index);
  EXPECT_THAT(runs.seconds, ElementsAre(0, 1, 2));
  EXPECT_EQ(calls, 10);
  EXPECT_EQ(runs.rejected, 6);
  EXPECT_FALSE(runs.steady);
}

}  // namespace
}  // namespace sluice::bench
