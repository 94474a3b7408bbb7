#include "kernels/moe/route.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "kernels/moe/route_variants.h"
#include "kernels/testing.h"

namespace sluice {
namespace {

struct Case {
  int64_t tokens, experts, hidden, top_k;
  std::vector<float> x, gate, bias;
  RouteArgs options;

  Case(uint64_t seed, int64_t tokens, int64_t experts, int64_t hidden, int64_t top_k)
      : tokens(tokens), experts(experts), hidden(hidden), top_k(top_k) {
    SplitMix64 random(seed);
    x = RandomFloats(random, tokens * hidden, 1, true);
    gate = RandomFloats(random, experts * hidden, 2 / std::sqrt(static_cast<float>(hidden)));
    bias = RandomFloats(random, experts, 0.1f);
    options.bias = bias.data();
  }

  struct Out {
    std::vector<int32_t> ids;
    std::vector<float> weights, scores;
    bool operator==(const Out&) const = default;
  };

  Out Run(const Variant<RouteArgs>& variant, int64_t begin, int64_t count, Exec& exec) const {
    Out out{std::vector<int32_t>(count * top_k), std::vector<float>(count * top_k),
            std::vector<float>(count * experts)};
    RouteArgs args = options;
    args.x = {x.data() + begin * hidden, {count, hidden}};
    args.gate = {gate.data(), {experts, hidden}};
    args.ids = {out.ids.data(), {count, top_k}};
    args.weights = {out.weights.data(), {count, top_k}};
    args.scores = {out.scores.data(), {count, experts}};
    variant.run(args, exec);
    return out;
  }
};

std::vector<Variant<RouteArgs>> VariantsHere() {
  std::vector<Variant<RouteArgs>> out;
  for (const auto& variant : RouteVariants())
    if (ThisMachine().Has(variant.needs)) out.push_back(variant);
  return out;
}

TEST(Route, EveryVariantScoresLikeTheReferenceAndChoosesByItsScores) {
  TestExec test(2);
  SplitMix64 random(3);
  for (int round = 0; round < 40; ++round) {
    const int64_t groups = round % 2 ? 1 + random.Below(4) : 0;
    const int64_t experts = groups ? groups * (2 + random.Below(8)) : 2 + random.Below(70);
    Case c(round, 1 + random.Below(40), experts, 1 + random.Below(200), 1);
    c.options.n_group = groups;
    c.options.topk_group = groups ? 1 + random.Below(groups) : 0;
    const int64_t kept = groups ? experts / groups * c.options.topk_group : experts;
    c.top_k =
        round % 6 ? 1 + random.Below(std::min<int64_t>(kept, 8)) : kept;  // all of them as well
    c.options.score = round % 3 ? ScoreFunction::kSigmoid : ScoreFunction::kSoftmax;
    c.options.renormalize = round % 5;
    c.options.scaling = 2.5f;
    if (round % 7 == 0) c.options.bias = nullptr;
    if (round % 4 == 1) c.options.softcap = 0.5f + static_cast<float>(random.Uniform());
    const Variant<RouteArgs> reference = {"reference", kAnything, RouteReference};
    const auto expected = c.Run(reference, 0, c.tokens, test.exec);
    for (const auto& variant : VariantsHere()) {
      const auto actual = c.Run(variant, 0, c.tokens, test.exec);
      // fp32 chains over at most 200 inputs and a 2-ulp exp; ids may differ where scores nearly
      // tie.
      for (size_t i = 0; i < expected.scores.size(); ++i)
        EXPECT_NEAR(actual.scores[i], expected.scores[i], 2e-6)
            << variant.name << " seed " << round;
      int64_t same = 0;
      for (int64_t i = 0; i < c.tokens * c.top_k; ++i) {
        if (actual.ids[i] != expected.ids[i]) continue;
        ++same;
        EXPECT_NEAR(actual.weights[i], expected.weights[i], 2e-5)
            << variant.name << " seed " << round;
      }
      EXPECT_GE(same, c.tokens * c.top_k - 2) << variant.name << " seed " << round;
    }
  }
}

// p itself is what the gate's single input says, so the choice can be written down by hand.
struct ByHand {
  std::vector<float> logits, bias;
  RouteArgs args;
  std::vector<int32_t> ids;
  std::vector<float> weights;

  void Run(int64_t top_k) {
    TestExec test;
    const float one = 1;
    ids.resize(top_k);
    weights.resize(top_k);
    args.x = {&one, {1, 1}};
    args.gate = {logits.data(), {static_cast<int64_t>(logits.size()), 1}};
    args.bias = bias.empty() ? nullptr : bias.data();
    args.ids = {ids.data(), {1, top_k}};
    args.weights = {weights.data(), {1, top_k}};
    Route(args, test.exec);
  }
};

float Sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

TEST(Route, TiesGoToTheLowerIndex) {
  ByHand r{.logits = {0, 1, 1, 0, 1, 1}, .bias = {}, .args = {}, .ids = {}, .weights = {}};
  r.Run(3);
  EXPECT_EQ(r.ids, (std::vector<int32_t>{1, 2, 4}));
}

TEST(Route, TiedGroupsGoToTheLowerIndex) {
  ByHand r{.logits = {0, 1, 1, 0, 2, 0, 1, 0}, .bias = {}, .args = {}, .ids = {}, .weights = {}};
  r.args.n_group = 4;  // group scores 1, 1, 2, 1
  r.args.topk_group = 2;
  r.Run(3);
  EXPECT_EQ(r.ids, (std::vector<int32_t>{4, 1, 0}));
}

// As the contract says it, by sorting; with many ties, and on both sides of the number up to which
// experts are ranked by comparing all of them.
TEST(Route, ChoosesWhatASortWouldChoose) {
  SplitMix64 random(31);
  for (int round = 0; round < 300; ++round) {
    const auto below = [&](int64_t n) { return static_cast<int64_t>(random.Below(n)); };
    const int64_t groups = round % 3 == 0 ? 1 : 1 + below(40),
                  size = 1 + below(groups < 9 ? 12 : 3);
    const int64_t experts = groups * size, kept = 1 + below(groups);
    ByHand r{.logits = std::vector<float>(experts),
             .bias = std::vector<float>(experts),
             .args = {},
             .ids = {},
             .weights = {}};
    for (float& bias : r.bias) bias = static_cast<float>(below(5)) / 4;  // p is 1/2 of all
    r.args.n_group = static_cast<int>(groups);
    r.args.topk_group = static_cast<int>(kept);
    const auto better = [](const std::vector<float>& values) {
      return [&values](int64_t a, int64_t b) {
        return values[a] > values[b] || (values[a] == values[b] && a < b);
      };
    };
    std::vector<float> scores;
    std::vector<int64_t> order, chosen;
    for (int64_t g = 0; g < groups; ++g) {
      std::vector<float> part(r.bias.begin() + g * size, r.bias.begin() + (g + 1) * size);
      std::sort(part.rbegin(), part.rend());
      scores.push_back(0.5f + part[0] + (size > 1 ? 0.5f + part[1] : 0));
      order.push_back(g);
    }
    std::sort(order.begin(), order.end(), better(scores));
    for (int64_t g = 0; g < kept; ++g)
      for (int64_t i = 0; i < size; ++i) chosen.push_back(order[g] * size + i);
    std::sort(chosen.begin(), chosen.end(), better(r.bias));
    chosen.resize(1 + below(static_cast<int64_t>(chosen.size())));
    r.Run(static_cast<int64_t>(chosen.size()));
    EXPECT_EQ(r.ids, std::vector<int32_t>(chosen.begin(), chosen.end()))
        << "round " << round << ": " << groups << " groups of " << size << ", kept " << kept;
  }
}

TEST(Route, ABiasChangesTheChoiceButNotTheWeights) {
  ByHand r{.logits = {2, 1, 0}, .bias = {0, 0, 5}, .args = {}, .ids = {}, .weights = {}};
  r.args.scaling = 3;
  r.Run(2);
  EXPECT_EQ(r.ids, (std::vector<int32_t>{2, 0}));
  EXPECT_NEAR(r.weights[0], 3 * Sigmoid(0) / (Sigmoid(0) + Sigmoid(2)), 1e-6);
}

TEST(Route, WithABiasAGroupIsWorthItsTwoBestExperts) {
  // Group 0 has the best single expert, group 1 the best pair.
  ByHand r{.logits = {9, -9, 1, 1}, .bias = {0, 0, 0, 0}, .args = {}, .ids = {}, .weights = {}};
  r.args.n_group = 2;
  r.args.topk_group = 1;
  r.Run(2);
  EXPECT_EQ(r.ids, (std::vector<int32_t>{2, 3}));
}

TEST(Route, WithoutABiasAGroupIsWorthItsBestExpertAndMaskedOnesWeighNothing) {
  ByHand r{.logits = {9, -9, 1, 1}, .bias = {}, .args = {}, .ids = {}, .weights = {}};
  r.args.n_group = 2;
  r.args.topk_group = 1;
  r.args.renormalize = false;
  r.Run(3);
  EXPECT_EQ(r.ids, (std::vector<int32_t>{0, 1, 2}));
  EXPECT_GT(r.weights[1], 0);
  EXPECT_EQ(r.weights[2], 0);
}

TEST(Route, ASoftmaxIsOverAllExpertsAndTiesGoToTheLowerIndex) {
  for (bool renormalize : {false, true}) {
    ByHand r{.logits = {1, 3, 0, 3, 2}, .bias = {}, .args = {}, .ids = {}, .weights = {}};
    r.args.score = ScoreFunction::kSoftmax;
    r.args.renormalize = renormalize;
    r.Run(3);
    EXPECT_EQ(r.ids, (std::vector<int32_t>{1, 3, 4}));
    const double chosen = 2 * std::exp(3.0) + std::exp(2.0);
    const double sum = renormalize ? chosen : chosen + std::exp(1.0) + 1;
    EXPECT_NEAR(r.weights[0], std::exp(3.0) / sum, 1e-6);
    EXPECT_EQ(r.weights[0], r.weights[1]);
    EXPECT_NEAR(r.weights[2], std::exp(2.0) / sum, 1e-6);
  }
}

TEST(Route, ASoftCapComesBeforeTheSoftmax) {
  ByHand r{.logits = {90, 0.1f, -80, 5}, .bias = {}, .args = {}, .ids = {}, .weights = {}};
  r.args.score = ScoreFunction::kSoftmax;
  r.args.renormalize = false;
  r.args.softcap = 2;
  r.Run(2);
  EXPECT_EQ(r.ids, (std::vector<int32_t>{0, 3}));
  double sum = 0;
  for (float l : r.logits) sum += std::exp(2 * std::tanh(l / 2.0));
  EXPECT_NEAR(r.weights[0], std::exp(2.0) / sum, 1e-6);
  EXPECT_NEAR(r.weights[1], std::exp(2 * std::tanh(2.5)) / sum, 1e-6);
}

TEST(Route, ATokensBitsDoNotDependOnOtherTokensOrLanes) {
  TestExec one(1), two(2), three(3);
  Case c(19, 45, 37, 133, 6);
  for (const auto& variant : VariantsHere()) {
    const auto all = c.Run(variant, 0, c.tokens, one.exec);
    EXPECT_EQ(c.Run(variant, 0, c.tokens, two.exec), all) << variant.name;
    EXPECT_EQ(c.Run(variant, 0, c.tokens, three.exec), all) << variant.name;
    for (int64_t t = 0; t < c.tokens; ++t) {
      const auto single = c.Run(variant, t, 1, two.exec);
      for (int64_t j = 0; j < c.top_k; ++j) {
        EXPECT_EQ(single.ids[j], all.ids[t * c.top_k + j]);
        EXPECT_EQ(single.weights[j], all.weights[t * c.top_k + j]);
      }
    }
  }
}

TEST(Route, NotANumberStaysInItsTokenAndIdsStayValidAndDistinct) {
  TestExec test(2);
  for (const auto score : {ScoreFunction::kSigmoid, ScoreFunction::kSoftmax}) {
    Case c(23, 9, 24, 40, 5);
    c.options.score = score;
    c.options.n_group = 4;
    c.options.topk_group = 2;
    for (const auto& variant : VariantsHere()) {
      const auto clean = c.Run(variant, 0, c.tokens, test.exec);
      Case dirty = c;
      dirty.options.bias = dirty.bias.data();
      dirty.x[3 * 40 + 1] = std::numeric_limits<float>::quiet_NaN();
      const auto out = dirty.Run(variant, 0, c.tokens, test.exec);
      for (int64_t t = 0; t < c.tokens; ++t) {
        std::set<int32_t> ids(out.ids.begin() + t * 5, out.ids.begin() + (t + 1) * 5);
        EXPECT_EQ(ids.size(), 5u);
        EXPECT_TRUE(*ids.begin() >= 0 && *ids.rbegin() < 24);
        for (int64_t j = 0; j < 5 && t != 3; ++j) {
          EXPECT_EQ(out.ids[t * 5 + j], clean.ids[t * 5 + j]);
          EXPECT_EQ(out.weights[t * 5 + j], clean.weights[t * 5 + j]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace sluice
