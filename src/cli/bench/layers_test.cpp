#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/bench/moe_case.h"
#include "cli/bench/weights.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> Names(const auto& list) {
  std::vector<std::string> out;
  for (const auto& item : list) out.push_back(item.name);
  return out;
}

constexpr int64_t kShared = 64;

MoeShape WithSharedExpert() {
  return {
      .name = "m", .hidden = 64, .intermediate = 32, .experts = 4, .top_k = 2, .shared = kShared};
}

TEST(BenchFormats, AreEachMeasuredOnceHoweverManyWaysOfReadingRowsThereAre) {
  BenchLayerOptions options;
  options.formats = {"bf16", "fp8_block", "int8", "int4"};
  options.activations = {"auto", "int8", "none"};
  options.zero_points = true;
  const auto formats = ReadFormats(options);
  ASSERT_TRUE(formats.ok());
  EXPECT_THAT(Names(*formats), ElementsAre("bf16", "fp8_block", "int8, int8 rows", "int8",
                                           "int4, int8 rows", "int4"));
  EXPECT_EQ(formats->front().activations, ActivationQuant::kNone);
  EXPECT_EQ(formats->back().layout, (WeightLayout{WeightFormat::kInt4, 64, true}));
}

TEST(BenchFormats, RefuseWhatServeRefuses) {
  BenchLayerOptions options;
  options.formats = {"int4_64"};
  EXPECT_THAT(ReadFormats(options).status().message(), HasSubstr("\"int4_64\""));
  options.formats = {"int4"};
  options.group_size = 48;
  EXPECT_EQ(ReadFormats(options).status().param(), "quantization-group-size");
  options.group_size = 32;
  options.activations = {"fp8"};
  EXPECT_EQ(ReadFormats(options).status().param(), "activation-quantization");
}

TEST(MoeContenders, AreEveryCombinationThatExists) {
  BenchMoeOptions options;
  options.geometries = {"m"};
  options.backends = {"epmoe", "fused_v2"};
  options.ablate = {"none", "shared+prefetch"};
  options.routings = {"uniform", "hot"};
  const auto contenders = ReadMoeContenders(options, WithSharedExpert());
  ASSERT_TRUE(contenders.ok()) << contenders.status().message();
  EXPECT_THAT(Names(*contenders),
              ElementsAre("epmoe uniform", "fused_v2 uniform", "fused_v2-shared+prefetch uniform",
                          "epmoe hot", "fused_v2 hot", "fused_v2-shared+prefetch hot"));
  EXPECT_FALSE((*contenders)[2].ablation.shared);
  EXPECT_FALSE((*contenders)[2].ablation.prefetch);
  EXPECT_TRUE((*contenders)[2].ablation.residency);
}

TEST(MoeContenders, LeaveOutTheSharedExpertAndAddTheRouter) {
  BenchMoeOptions options;
  options.experts = {"all", "routed"};
  options.router = true;
  EXPECT_THAT(Names(*ReadMoeContenders(options, WithSharedExpert())),
              ElementsAre("auto all", "auto routed", "router"));
  MoeShape without = WithSharedExpert();
  without.shared = 0;
  EXPECT_THAT(Names(*ReadMoeContenders(options, without)), ElementsAre("auto all", "router"));
}

TEST(MoeContenders, RefuseAnAblationThatNoneOfTheBackEndsHas) {
  BenchMoeOptions options;
  options.backends = {"epmoe"};
  options.ablate = {"none", "prefetch"};
  EXPECT_EQ(ReadMoeContenders(options, WithSharedExpert()).status().param(), "ablate");
  options.backends = {"fused_v2"};
  options.ablate = {"shared"};
  options.experts = {"routed"};
  EXPECT_THAT(ReadMoeContenders(options, WithSharedExpert()).status().message(),
              HasSubstr("no shared expert"));
}

TEST(BenchMoeCase, CountsAndChecksWhatEachContenderDoes) {
  Team team(2);
  const MoeShape shape = WithSharedExpert();
  const WeightLayout layout{WeightFormat::kInt4, 64, true};
  const auto layer = BenchMoeLayer::Make(shape, layout, true, 1, team);
  ASSERT_TRUE(layer.ok());
  BenchMoeOptions options;
  options.experts = {"all", "routed"};
  options.router = true;
  const auto contenders = *ReadMoeContenders(options, shape);
  Buffer buffer = std::move(*Buffer::Allocate(ScratchBytes(contenders, shape, 3), "scratch"));
  Arena scratch(std::move(buffer));
  Exec exec{team, ThisMachine(), scratch};
  BenchMoeCase c(*layer, 3, ActivationQuant::kInt8, 7);
  c.Draw(Routing::kUniform);
  for (const MoeContender& contender : contenders) {
    c.Run(contender, exec);
    EXPECT_LE(c.Error(contender, exec), 8e-3) << contender.name;
  }
  const double router = 2.0 * 3 * 4 * 64, routed = 6.0 * 3 * 2 * 32 * 64;
  EXPECT_DOUBLE_EQ(c.Work(contenders[0]).flop, router + routed + 6.0 * 3 * kShared * 64);
  EXPECT_DOUBLE_EQ(c.Work(contenders[1]).flop, router + routed);
  EXPECT_DOUBLE_EQ(c.Work(contenders[2]).flop, router);
  EXPECT_DOUBLE_EQ(c.Work(contenders[2]).bytes, 4.0 * 4 * 64);
}

}  // namespace
}  // namespace sluice
