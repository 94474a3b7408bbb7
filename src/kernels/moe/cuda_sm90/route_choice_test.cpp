// The device's choice of experts, lane by lane, against the CPU's, bit for bit.
#include "kernels/moe/cuda_sm90/route_choice.h"

#include <gtest/gtest.h>

#include <bit>
#include <limits>
#include <vector>

#include "base/random.h"
#include "kernels/moe/route_variants.h"

namespace sluice::moe_sm90 {
namespace {

struct HostWarp {
  template <class F>
  void Each(F&& f) const {
    for (int lane = 0; lane < kRouteLanes; ++lane) f(lane);
  }
  template <class F>
  RouteCandidate Best(F&& f) const {
    RouteCandidate best;
    for (int lane = kRouteLanes - 1; lane >= 0; --lane) best = BetterOf(best, f(lane));
    return best;
  }
};

struct Choice {
  std::vector<int32_t> ids;
  std::vector<uint32_t> weights;  // bits
  bool operator==(const Choice&) const = default;
};

Choice Made(const std::vector<int32_t>& ids, const std::vector<float>& weights) {
  Choice out{ids, {}};
  // Not-a-number has many bits.
  for (const float w : weights) out.weights.push_back(w == w ? std::bit_cast<uint32_t>(w) : 1u);
  return out;
}

Choice OnWarp(const RouteChoice& choice, const std::vector<float>& p) {
  std::vector<float> c(p.size()), groups(static_cast<size_t>(choice.n_group) + 1);
  std::vector<int32_t> ids(static_cast<size_t>(choice.top_k), -1);
  std::vector<float> weights(ids.size(), -1);
  ChooseByWarp(choice, p.data(), c.data(), groups.data(), ids.data(), weights.data(), HostWarp());
  return Made(ids, weights);
}

Choice OnCpu(const RouteChoice& choice, const std::vector<float>& p) {
  const float one = 1;
  std::vector<float> scratch(3 * p.size() + 3);
  std::vector<int32_t> ids(static_cast<size_t>(choice.top_k), -1);
  std::vector<float> weights(ids.size(), -1);
  RouteArgs args{.x = {&one, {1, 1}},
                 .gate = {p.data(), {choice.experts, 1}},
                 .bias = choice.bias,
                 .n_group = choice.n_group,
                 .topk_group = choice.topk_group,
                 .renormalize = choice.renormalize,
                 .scaling = choice.scaling,
                 .ids = {ids.data(), {1, choice.top_k}},
                 .weights = {weights.data(), {1, choice.top_k}},
                 .scores = {}};
  ChooseExperts(args, 0, p.data(), scratch.data());
  return Made(ids, weights);
}

TEST(RouteChoice, HasTheBitsOfTheCpuAlsoWhereScoresTie) {
  SplitMix64 random(5);
  for (int round = 0; round < 3000; ++round) {
    const int groups = round % 2 ? 1 + static_cast<int>(random.Below(40)) : 0;
    const int experts = groups ? groups * (1 + static_cast<int>(random.Below(9)))
                               : 1 + static_cast<int>(random.Below(300));
    // Few different values: experts tie, and groups do.
    const uint64_t values = round % 3 ? 1 + random.Below(6) : 1 << 20;
    const auto draw = [&] {
      return static_cast<float>(random.Below(values)) / static_cast<float>(values);
    };
    std::vector<float> p(static_cast<size_t>(experts)), bias(p.size());
    for (float& x : p) x = draw();
    for (float& x : bias) x = draw() - 0.5f;
    const float odd[] = {std::numeric_limits<float>::quiet_NaN(),
                         std::numeric_limits<float>::infinity(),
                         -std::numeric_limits<float>::infinity(), 0};
    if (round % 5 == 0)
      for (int i = 0; i < 3; ++i) {
        p[random.Below(p.size())] = odd[random.Below(4)];
        bias[random.Below(p.size())] = odd[random.Below(4)];
      }
    const RouteChoice choice{
        .experts = experts,
        .top_k = 1 + static_cast<int>(random.Below(std::min<uint64_t>(p.size(), 32))),
        .n_group = groups,
        .topk_group = groups ? 1 + static_cast<int>(random.Below(groups)) : 0,
        .bias = round % 7 < 4 ? bias.data() : nullptr,
        .renormalize = round % 11 < 6,
        .scaling = 2.5f};
    ASSERT_EQ(OnWarp(choice, p), OnCpu(choice, p)) << "round " << round << ", seed 5";
  }
}

}  // namespace
}  // namespace sluice::moe_sm90
