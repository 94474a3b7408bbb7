#include "cli/bench/layer_shapes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "checkpoint/model_path.h"

namespace sluice {
namespace {

using testing::HasSubstr;

TEST(MoeShape, IsReadFromEveryFamilysWords) {
  const auto qwen = ReadMoeShape("Qwen3-30B-A3B");
  ASSERT_TRUE(qwen.ok());
  EXPECT_EQ(qwen->hidden, 2048);
  EXPECT_EQ(qwen->intermediate, 768);
  EXPECT_EQ(qwen->experts, 128);
  EXPECT_EQ(qwen->top_k, 8);
  EXPECT_EQ(qwen->shared, 0);
  const auto ling = ReadMoeShape("ling-mini-2.0");
  ASSERT_TRUE(ling.ok());
  EXPECT_EQ(ling->name, "Ling-mini-2.0");
  EXPECT_EQ(ling->shared, 512);
  const auto grok = ReadMoeShape("Grok-2");
  ASSERT_TRUE(grok.ok());
  EXPECT_EQ(grok->experts, 8);
  EXPECT_EQ(grok->top_k, 2);
  EXPECT_EQ(grok->intermediate, 16384);
  EXPECT_EQ(grok->shared, 32768);
  EXPECT_EQ(grok->activation, Activation::kGeluTanh);
  for (const std::string& name : ShippedGeometries()) EXPECT_TRUE(ReadMoeShape(name).ok()) << name;
}

TEST(MoeShape, IsReadFromNumbers) {
  const auto shape = ReadMoeShape("64x32x8x2");
  ASSERT_TRUE(shape.ok());
  EXPECT_EQ(shape->hidden, 64);
  EXPECT_EQ(shape->intermediate, 32);
  EXPECT_EQ(shape->experts, 8);
  EXPECT_EQ(shape->top_k, 2);
  EXPECT_EQ(shape->shared, 0);
  EXPECT_EQ(ReadMoeShape("64x32x8x2x96")->shared, 96);
  for (const char* text : {"64", "64x32x8", "64x32x8x9", "64x32x8x2x", "64x32x8x2x1x1", "x", "",
                           "0x32x8x2", "64x32x99999999999999999999x2"})
    EXPECT_FALSE(ReadMoeShape(text).ok()) << text;
  EXPECT_THAT(ReadMoeShape("64x32x8x9").status().message(),
              HasSubstr("HIDDENxINTERMEDIATExEXPERTSxTOP_K"));
}

TEST(MoeShape, RefusesAModelThatDoesNotExist) {
  EXPECT_EQ(ReadMoeShape("Qwen9").status().code(), Code::kNotFound);
}

TEST(EpShare, OfLing26OverThirtyTwoDevicesIsThePublishedTestShape) {
  const auto shape = ShareOf(*ReadMoeShape("Ling-2.6-1T"), "1/32");
  ASSERT_TRUE(shape.ok());
  EXPECT_EQ(shape->experts, 8);
  EXPECT_EQ(shape->top_k, 1);
  // 4,096 routed and 4,096 shared rows: 412.3 GFLOP each.
  SplitMix64 random(1);
  const auto ids = DrawExperts(Routing::kUniform, *shape, 4096, random);
  const LayerWork work = MoeWork(*shape, ids, 50331648, 50331648);
  EXPECT_DOUBLE_EQ(work.flop, 2 * 412316860416.0);
  EXPECT_DOUBLE_EQ(work.bytes, 9 * 50331648.0);
  EXPECT_EQ(work.active_experts, 8);
}

TEST(EpShare, RefusesWhatIsNoShare) {
  const MoeShape shape{.name = "m", .experts = 12, .top_k = 4};
  for (const char* share : {"", "32", "1/", "1/0", "2/3", "1/-2", "1/2x", "1/99999999999999999999"})
    EXPECT_EQ(ShareOf(shape, share).status().param(), "ep-share") << share;
  EXPECT_THAT(ShareOf(shape, "1/5").status().message(), HasSubstr("12 experts"));
  EXPECT_EQ(ShareOf(shape, "1/2")->top_k, 2);
  EXPECT_EQ(ShareOf(shape, "1/6")->top_k, 1);
}

TEST(MoeWork, CountsActiveExpertsOnceAndRowsEachTime) {
  const MoeShape shape{.hidden = 10, .intermediate = 4, .experts = 5, .top_k = 2, .shared = 3};
  const LayerWork work = MoeWork(shape, {1, 4, 4, 1, 1, 0}, 1000, 70);
  EXPECT_EQ(work.active_experts, 3);
  EXPECT_DOUBLE_EQ(work.bytes, 3 * 1000 + 70);
  EXPECT_DOUBLE_EQ(work.flop, 2 * 3 * 10 * (6 * 4 + 3 * 3));
  EXPECT_DOUBLE_EQ(MoeWork(shape, {}, 1000, 70).bytes, 0);
}

TEST(LinearShapes, AreThoseOfTheGeometrysLayers) {
  const auto qwen = ReadLinearShapes("Qwen3-30B-A3B");
  ASSERT_TRUE(qwen.ok());
  EXPECT_EQ(qwen->front().name, "q|k|v");
  EXPECT_EQ(qwen->front().outputs, (32 + 2 * 4) * 128);
  EXPECT_EQ(qwen->front().inputs, 2048);
  const auto ling = ReadLinearShapes("Ling-2.6-flash");
  ASSERT_TRUE(ling.ok());
  EXPECT_EQ(ling->front().name, "q|k|v|gate");
  EXPECT_EQ(ling->front().outputs, 4 * 32 * 128);
  for (const std::string& name : ShippedGeometries())
    EXPECT_TRUE(ReadLinearShapes(name).ok()) << name;
}

TEST(LinearWork, CountsAMultiplicationAndAnAdditionAnElement) {
  const LayerWork work = LinearWork({"", 7, 11}, 3, 154);
  EXPECT_DOUBLE_EQ(work.flop, 2 * 3 * 7 * 11);
  EXPECT_DOUBLE_EQ(work.bytes, 154);
}

TEST(RooflineShare, IsOfWhicheverCeilingBinds) {
  const LayerWork work{.flop = 100, .bytes = 50};
  EXPECT_DOUBLE_EQ(RooflineShare(work, 4, 100, 25), 0.5);  // 2 s of reading bind
  EXPECT_DOUBLE_EQ(RooflineShare(work, 4, 25, 100), 1.0);  // 4 s of multiplying bind
}

TEST(DrawExperts, GivesEveryRowDistinctExpertsInRange) {
  const MoeShape shape{.experts = 9, .top_k = 9};
  SplitMix64 random(3);
  for (const Routing routing : {Routing::kUniform, Routing::kZipf, Routing::kHot}) {
    const auto ids = DrawExperts(routing, shape, 20, random);
    ASSERT_EQ(ids.size(), 180u);
    for (int64_t t = 0; t < 20; ++t)
      EXPECT_EQ(std::set<int32_t>(ids.begin() + t * 9, ids.begin() + t * 9 + 9).size(), 9u);
    EXPECT_EQ(*std::max_element(ids.begin(), ids.end()), 8);
  }
}

TEST(DrawExperts, FollowsTheDistributionAsked) {
  const MoeShape shape{.experts = 16, .top_k = 2};
  SplitMix64 random(4);
  const auto rows_of_first = [&](Routing routing) {
    const auto ids = DrawExperts(routing, shape, 4000, random);
    return std::count(ids.begin(), ids.end(), 0);
  };
  EXPECT_NEAR(static_cast<double>(rows_of_first(Routing::kUniform)), 500, 100);
  EXPECT_GT(rows_of_first(Routing::kZipf), 1500);
  EXPECT_EQ(rows_of_first(Routing::kHot), 4000);
}

TEST(Arguments, AreRefusedByName) {
  EXPECT_THAT(ParseRouting("zip").status().message(), HasSubstr("uniform, zipf, hot"));
  for (const char* shape : {"", "12", "x", "0x5", "5x0", "5x-1", "5x5x5", "1048577x1", "ax5"})
    EXPECT_EQ(ParseLinearShape(shape).status().param(), "shapes") << shape;
  EXPECT_EQ(ParseLinearShape("4096x1024")->inputs, 1024);
}

}  // namespace
}  // namespace sluice
