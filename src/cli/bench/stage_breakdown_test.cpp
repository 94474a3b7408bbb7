#include "cli/bench/stage_breakdown.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>

namespace sluice {
namespace {

constexpr double kNano = 1e-9;

TEST(StageBreakdown, GivesEveryMomentToTheInnermostStage) {
  const trace::Event events[] = {
      {"gather", 10, 20, 0, 0},  {"unpack", 20, 30, 500, 0},
      {"gate/up", 5, 60, 0, 0},  {"call", 0, 100, 0, 0},  // of an unknown name
      {"waiting", 70, 90, 0, 0},
  };
  const StageBreakdown b = BreakDown(events, 0, 100, 1);
  EXPECT_NEAR(b.of("gather").seconds, 10 * kNano, 1e-15);
  EXPECT_NEAR(b.of("unpack").seconds, 10 * kNano, 1e-15);
  EXPECT_NEAR(b.of("gate/up").seconds, 35 * kNano, 1e-15);
  EXPECT_NEAR(b.of("waiting").seconds, 20 * kNano, 1e-15);
  EXPECT_NEAR(b.of("other").seconds, 25 * kNano, 1e-15);
  EXPECT_EQ(b.unpacked_bytes, 500);
}

TEST(StageBreakdown, IsAMeanOverLanesThatAddsUpToTheCallsTime) {
  const trace::Event events[] = {
      {"sort", 100, 140, 0, 3},    {"down", 140, 200, 0, 3},
      {"waiting", 50, 140, 0, 7},                                // since before the call
      {"down", 140, 170, 0, 7},    {"waiting", 170, 400, 0, 7},  // until after it
      {"gate/up", 300, 900, 0, 7},                               // of another call
  };
  const StageBreakdown b = BreakDown(events, 100, 200, 2);
  EXPECT_NEAR(b.of("sort").seconds, 20 * kNano, 1e-15);
  EXPECT_NEAR(b.of("down").seconds, 45 * kNano, 1e-15);
  EXPECT_NEAR(b.of("waiting").seconds, 35 * kNano, 1e-15);
  EXPECT_EQ(b.of("gate/up").seconds, 0);
  double sum = 0;
  for (const StageTime& time : b.stages) sum += time.seconds;
  EXPECT_NEAR(sum, b.seconds, 1e-15);
  // All of the sort and half of lane 3's product ran while lane 7 waited.
  EXPECT_NEAR(b.of("sort").beside_waiting, 20 * kNano, 1e-15);
  EXPECT_NEAR(b.of("down").beside_waiting, 15 * kNano, 1e-15);
  EXPECT_EQ(b.of("waiting").beside_waiting, 0);
}

TEST(StageBreakdown, CountsALaneThatRecordedNothingAsOther) {
  const trace::Event events[] = {{"down", 0, 100, 0, 0}};
  const StageBreakdown b = BreakDown(events, 0, 100, 2);
  EXPECT_NEAR(b.of("down").seconds, 50 * kNano, 1e-15);
  EXPECT_NEAR(b.of("other").seconds, 50 * kNano, 1e-15);
}

TEST(StageBreakdown, HidesTheWorkThatItsProductsHadNoTimeFor) {
  const trace::Event events[] = {{"gate/up", 0, 60, 0, 0}, {"down", 60, 90, 0, 0}};
  StageBreakdown b = BreakDown(events, 0, 100, 1);
  b.work = {80 * kNano, 40 * kNano, 10 * kNano};
  EXPECT_NEAR(b.hidden_seconds(), 40 * kNano, 1e-15);
  b.work = {50 * kNano, 10 * kNano, 0};
  EXPECT_EQ(b.hidden_seconds(), 0);
}

TEST(StageBreakdown, OfARunIsDividedByItsCalls) {
  const trace::Event events[] = {
      {"gather", 0, 20, 0, 0}, {"unpack", 20, 30, 500, 0}, {"product", 0, 90, 0, 0}};
  StageBreakdown b = BreakDown(events, 0, 100, 1);
  b.DivideBy(10);
  EXPECT_NEAR(b.seconds, 10 * kNano, 1e-15);
  EXPECT_NEAR(b.of("gather").seconds, 2 * kNano, 1e-15);
  EXPECT_NEAR(b.product_seconds(), 6 * kNano, 1e-15);
  EXPECT_EQ(b.unpacked_bytes, 50);
  const auto has = [&](std::string_view stage) {
    return AnyHas({&b, 1}, std::find(std::begin(kStageNames), std::end(kStageNames), stage) -
                               std::begin(kStageNames));
  };
  EXPECT_TRUE(has("product"));
  EXPECT_FALSE(has("gate/up"));
}

TEST(StageBreakdown, IsPlottedWithItsLabelsEscaped) {
  StageBreakdown b = BreakDown({}, 0, 100, 1);
  b.label = "a < b & c";
  const std::string path = testing::TempDir() + "/plot.svg";
  ASSERT_TRUE(PlotBreakdowns("title", {&b, 1}, path).ok());
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  EXPECT_THAT(text.str(), testing::HasSubstr("a &lt; b &amp; c"));
  EXPECT_THAT(text.str(), testing::EndsWith("</svg>\n"));
  std::remove(path.c_str());
  EXPECT_EQ(PlotBreakdowns("title", {}, "/nowhere/plot.svg").code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace sluice
