#include "bench/steady_runs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::bench {
namespace {

using testing::ElementsAre;

// Hooks whose ceilings come from a list, the last one for ever; a run takes its round's number and
// 100 for each contender before it, and a second on the clock.
struct Machine {
  explicit Machine(std::vector<Ceilings> list) : list(std::move(list)) {}

  std::vector<SteadyRuns> Run(const RunLimits& limits, int contenders) {
    return RunBesideCeilings(limits, contenders,
                             {.prepare = [this] { ++prepared; },
                              .measure = [this] { return list[std::min(next++, list.size() - 1)]; },
                              .once =
                                  [this](int contender, int round) {
                                    ++now;
                                    return 100 * contender + round;
                                  },
                              .clock = [this] { return now; }});
  }
  SteadyRuns Run(int runs) { return Run({.runs = runs}, 1).front(); }

  std::vector<Ceilings> list;
  size_t next = 0;
  int prepared = 0;
  double now = 0;
};

// Ceilings that move with every measurement.
std::vector<Ceilings> Wild() {
  std::vector<Ceilings> out;
  for (int i = 0; i < 1000; ++i) out.push_back({i % 2 ? 100.0 : 50.0, 10});
  return out;
}

TEST(SteadyRuns, KeepsEveryRunWhileTheCeilingsStandStill) {
  Machine machine({{100, 10}, {105, 10.5}, {98, 10}});
  const SteadyRuns runs = machine.Run(3);
  EXPECT_THAT(runs.seconds, ElementsAre(0, 1, 2));
  EXPECT_EQ(runs.rejected, 0);
  EXPECT_TRUE(runs.steady);
  EXPECT_DOUBLE_EQ(runs.ceilings[0].flops, 102.5);
  EXPECT_DOUBLE_EQ(runs.ceilings[0].bytes, 10.25);
}

TEST(SteadyRuns, RepeatsARunBesideWhichEitherCeilingMoved) {
  // Round 0: flops rise by 12 %; round 1: bytes fall by 20 %.
  Machine machine({{100, 10}, {112, 10}, {112, 8}});
  const SteadyRuns runs = machine.Run(2);
  EXPECT_THAT(runs.seconds, ElementsAre(2, 3));
  EXPECT_THAT(runs.rounds, ElementsAre(2, 3));
  EXPECT_EQ(runs.rejected, 2);
  EXPECT_TRUE(runs.steady);
}

TEST(SteadyRuns, EndsOnAMachineThatIsNeverSteadyAndSaysSo) {
  Machine machine(Wild());
  const SteadyRuns runs = machine.Run(3);
  EXPECT_THAT(runs.seconds, ElementsAre(0, 1, 2));
  EXPECT_EQ(machine.next, 10u);
  EXPECT_EQ(runs.rejected, 6);
  EXPECT_FALSE(runs.steady);
}

TEST(SteadyRuns, RepeatsNothingOnceItsTimeIsOver) {
  Machine machine(Wild());
  const SteadyRuns runs = machine.Run({.runs = 3, .seconds_max = 4}, 1).front();
  EXPECT_EQ(machine.now, 4);
  EXPECT_THAT(runs.seconds, ElementsAre(0, 1, 2));  // never fewer
  EXPECT_FALSE(runs.steady);
}

TEST(SteadyRuns, TakesContendersInTurnAndLeavesOutWhoHasEnough) {
  // The first contender's first run is the one that is disturbed.
  Machine machine({{100, 10}, {50, 10}});
  const auto runs = machine.Run({.runs = 2}, 2);
  EXPECT_THAT(runs[0].seconds, ElementsAre(1, 2));
  EXPECT_THAT(runs[1].seconds, ElementsAre(100, 101));
  EXPECT_EQ(machine.now, 5);
  EXPECT_EQ(machine.prepared, 4);  // and for a round that was not needed
}

TEST(SteadyRuns, ArePairedByTheirRounds) {
  SteadyRuns ours, theirs;
  ours.rounds = {0, 1, 3};
  theirs.rounds = {1, 2, 3};
  EXPECT_EQ(PairedRatio(ours, {9, 4, 6}, theirs, {2, 9, 3}), 2);
  theirs.rounds = {4, 5, 6};
  EXPECT_EQ(PairedRatio(ours, {9, 4, 6}, theirs, {2, 9, 3}), 0);
}

}  // namespace
}  // namespace sluice::bench
