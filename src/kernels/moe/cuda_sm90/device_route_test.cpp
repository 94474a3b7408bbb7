// The router on a Hopper GPU against the CPU's. Without such a GPU every test skips and says why.
#include "kernels/moe/cuda_sm90/device_route.h"

#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>

#include "kernels/moe/cuda_sm90/device_testing.h"
#include "kernels/moe/route_variants.h"
#include "kernels/testing.h"

namespace sluice::moe_sm90 {
namespace {

// One family's router.
struct Family {
  const char* name;
  int experts, hidden, top_k, n_group, topk_group;
  ScoreFunction score;
  bool bias, renormalize;
  float softcap, scaling;
};
// clang-format off
constexpr Family kFamilies[] = {
    // name             E    H     k  groups   score                    bias   renorm softcap scaling
    {"Ling-2.6-1T",    256, 8192, 8, 8, 4, ScoreFunction::kSigmoid, true,  true,  0,  2.5f},
    {"Ling, no bias",  256, 2048, 8, 8, 4, ScoreFunction::kSigmoid, false, true,  0,  2.5f},
    {"Qwen3-30B-A3B",  128, 2048, 8, 0, 0, ScoreFunction::kSoftmax, false, true,  0,  1},
    {"Grok-2",         8,   8192, 2, 0, 0, ScoreFunction::kSoftmax, false, false, 30, 1},
    {"odd",            37,  133,  5, 0, 0, ScoreFunction::kSigmoid, true,  false, 2,  1},
    {"all of one",     1,   3,    1, 1, 1, ScoreFunction::kSoftmax, true,  true,  0,  1},
};
// clang-format on

struct Routed {
  std::vector<int32_t> ids;
  std::vector<float> weights, scores;
};

struct Case {
  Family f;
  int tokens;
  std::vector<float> x, gate, bias;

  Case(const Family& family, int count, uint64_t seed) : f(family), tokens(count) {
    if (!Thorough()) f.hidden = std::min(f.hidden, 512);
    SplitMix64 random(seed);
    x = RandomFloats(random, int64_t{tokens} * f.hidden, 1, true);
    gate = RandomFloats(random, int64_t{f.experts} * f.hidden,
                        2 / std::sqrt(static_cast<float>(f.hidden)));
    bias = RandomFloats(random, f.experts, 0.1f);
  }

  Routed OnDevice(int begin, int count) const {
    std::vector<Bf16> rows;
    for (int64_t i = int64_t{begin} * f.hidden; i < int64_t{begin + count} * f.hidden; ++i)
      rows.push_back(ToBf16(x[static_cast<size_t>(i)]));
    const DeviceBuffer device_x = ToDevice(rows), device_gate = ToDevice(gate);
    const DeviceBuffer device_bias = ToDevice(bias);
    const auto chosen = static_cast<size_t>(count * f.top_k);
    const DeviceBuffer ids = ToDevice(std::vector<int32_t>(chosen, -1));
    const DeviceBuffer weights = ToDevice(std::vector<float>(chosen, NAN));
    const DeviceBuffer scores =
        ToDevice(std::vector<float>(static_cast<size_t>(count) * f.experts, NAN));
    const Status status = DeviceRoute({.tokens = count,
                                       .experts = f.experts,
                                       .hidden = f.hidden,
                                       .top_k = f.top_k,
                                       .x = device_x.data(),
                                       .gate = device_gate.data<float>(),
                                       .bias = f.bias ? device_bias.data<float>() : nullptr,
                                       .softcap = f.softcap,
                                       .softmax = f.score == ScoreFunction::kSoftmax,
                                       .n_group = f.n_group,
                                       .topk_group = f.topk_group,
                                       .renormalize = f.renormalize,
                                       .scaling = f.scaling,
                                       .ids = ids.data<int32_t>(),
                                       .weights = weights.data<float>(),
                                       .scores = scores.data<float>()},
                                      nullptr);
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    return {ToHost<int32_t>(ids), ToHost<float>(weights), ToHost<float>(scores)};
  }

  RouteArgs Args(Routed& out) const {
    out = {std::vector<int32_t>(static_cast<size_t>(tokens * f.top_k)),
           std::vector<float>(static_cast<size_t>(tokens * f.top_k)),
           std::vector<float>(static_cast<size_t>(tokens * f.experts))};
    return {.x = {x.data(), {tokens, f.hidden}},
            .gate = {gate.data(), {f.experts, f.hidden}},
            .bias = f.bias ? bias.data() : nullptr,
            .softcap = f.softcap,
            .score = f.score,
            .n_group = f.n_group,
            .topk_group = f.topk_group,
            .renormalize = f.renormalize,
            .scaling = f.scaling,
            .ids = {out.ids.data(), {tokens, f.top_k}},
            .weights = {out.weights.data(), {tokens, f.top_k}},
            .scores = {out.scores.data(), {tokens, f.experts}}};
  }
};

uint32_t Bits(float x) { return std::bit_cast<uint32_t>(x); }

class DeviceRouteTest : public testing::TestWithParam<Family> {
 protected:
  void SetUp() override {
    if (const Status device = CheckDevice(); !device.ok()) GTEST_SKIP() << device.message();
  }
};

TEST_P(DeviceRouteTest, ScoresLikeTheReferenceAndChoosesByItsScoresAsTheCpuDoes) {
  TestExec test;
  const Case c(GetParam(), 70, 3);
  Routed expected, chosen;
  RouteReference(c.Args(expected), test.exec);
  const Routed actual = c.OnDevice(0, c.tokens);
  // 32 chains of at most 256 products, a 2-ulp exp.
  for (size_t i = 0; i < expected.scores.size(); ++i)
    ASSERT_NEAR(actual.scores[i], expected.scores[i], 4e-6) << i;
  const RouteArgs args = c.Args(chosen);
  std::vector<float> scratch(static_cast<size_t>(3 * c.f.experts + 3));
  for (int t = 0; t < c.tokens; ++t)
    ChooseExperts(args, t, actual.scores.data() + int64_t{t} * c.f.experts, scratch.data());
  EXPECT_EQ(actual.ids, chosen.ids);
  for (size_t i = 0; i < chosen.weights.size(); ++i)
    ASSERT_EQ(Bits(actual.weights[i]), Bits(chosen.weights[i])) << i;
}

TEST_P(DeviceRouteTest, ATokensBitsDoNotDependOnOtherTokens) {
  const Case c(GetParam(), 70, 4);
  const Routed all = c.OnDevice(0, c.tokens);
  for (const auto& [begin, count] : {std::pair(0, 1), {69, 1}, {5, 3}, {20, 40}}) {
    const Routed some = c.OnDevice(begin, count);
    for (int i = 0; i < count * c.f.top_k; ++i) {
      const auto at = static_cast<size_t>(begin * c.f.top_k + i);
      ASSERT_EQ(some.ids[static_cast<size_t>(i)], all.ids[at]);
      ASSERT_EQ(Bits(some.weights[static_cast<size_t>(i)]), Bits(all.weights[at]));
    }
  }
}

TEST_P(DeviceRouteTest, NotANumberStaysInItsTokenAndIdsStayValidAndDistinct) {
  Case c(GetParam(), 9, 5);
  const Routed clean = c.OnDevice(0, c.tokens);
  c.x[static_cast<size_t>(4 * c.f.hidden + 1)] = NAN;
  const Routed dirty = c.OnDevice(0, c.tokens);
  for (int t = 0; t < c.tokens; ++t) {
    const auto begin = dirty.ids.begin() + t * c.f.top_k;
    std::vector<int32_t> ids(begin, begin + c.f.top_k);
    if (t != 4) {
      EXPECT_TRUE(std::equal(ids.begin(), ids.end(), clean.ids.begin() + t * c.f.top_k)) << t;
    }
    std::sort(ids.begin(), ids.end());
    EXPECT_TRUE(std::adjacent_find(ids.begin(), ids.end()) == ids.end());
    EXPECT_TRUE(ids.front() >= 0 && ids.back() < c.f.experts);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, DeviceRouteTest, testing::ValuesIn(kFamilies),
                         [](const auto& info) { return "family" + std::to_string(info.index); });

TEST(DeviceRouteArgs, AreRefusedWithTheFieldAndWhatIsAllowed) {
  DeviceRouteArgs args{.tokens = 1, .experts = 8, .hidden = 4, .top_k = 2};
  args.top_k = 9;
  EXPECT_THAT(DeviceRoute(args, nullptr).message(),
              testing::HasSubstr("top_k is 9, allowed 1 .. 8"));
  args.top_k = 2;
  args.n_group = 3;
  args.topk_group = 1;
  EXPECT_THAT(DeviceRoute(args, nullptr).message(),
              testing::HasSubstr("n_group is 3, must divide 8 experts"));
}

}  // namespace
}  // namespace sluice::moe_sm90
