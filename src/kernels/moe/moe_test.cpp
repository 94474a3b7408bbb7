#include "kernels/moe/moe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>

#include "base/trace.h"
#include "formats/fp8/e4m3.h"
#include "kernels/moe/moe_testing.h"

namespace sluice {
namespace {

void ExpectMatchesReference(const Case& c, const std::string& what) {
  TestExec test;
  const auto expected = c.Reference(test.exec);
  for (const Place& place : PlacesHere(c.activations)) {
    if (place.kernel && c.rounding == Rounding::kNone) continue;  // inputs of down: not bfloat16s
    On on(place);
    const auto actual = c.Run(on);
    for (int64_t t = 0; t < c.s.tokens; ++t) {
      const auto row = [&](const std::vector<float>& y) {
        return std::vector<float>(y.begin() + t * c.s.hidden, y.begin() + (t + 1) * c.s.hidden);
      };
      EXPECT_LE(RelativeError(row(actual), row(expected)),
                c.rounding == Rounding::kBf16 || c.activations != ActivationQuant::kNone
                    ? kRoundedTolerance
                    : kExactTolerance)
          << what << " " << place.name << " row " << t;
    }
  }
}

TEST(Moe, MatchesTheReferenceOnRaggedShapes) {
  // clang-format off
  const Shape shapes[] = {
      // tokens experts hidden intermediate top_k shared
      {1,       4,      64,    32,          2,    32},
      {3,       5,      33,    7,           1,    0},    // k = 1, no shared expert
      {7,       3,      70,    50,          3,    20},   // k = E, a narrower shared expert
      {40,      6,      96,    48,          2,    100},  // a wider one
      {130,     9,      40,    33,          4,    17},
      {2,       1,      1,     1,           1,    1},
  };
  // clang-format on
  for (const Shape& shape : shapes)
    for (const Rounding rounding : {Rounding::kBf16, Rounding::kNone}) {
      Case c(shape.tokens, shape);
      c.rounding = rounding;
      ExpectMatchesReference(c, std::to_string(shape.tokens) + " tokens");
    }
}

TEST(Moe, GatesByTheActivationAsked) {
  for (const Rounding rounding : {Rounding::kBf16, Rounding::kNone}) {
    Case c(9, {21, 4, 65, 50, 2, 33});
    c.rounding = rounding;
    On on(PlacesHere().back());
    const auto silu = c.Reference(on.exec);
    c.activation = Activation::kGeluTanh;
    ExpectMatchesReference(c, "gelu_tanh");
    EXPECT_GT(RelativeError(c.Reference(on.exec), silu), 0.1);
  }
}

TEST(Moe, TakesGatesFarFromZero) {
  // act(gate) is 0 or the gate itself there; no product of the polynomial may become inf * 0.
  for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh})
    for (const float scale : {30.0f, 1e6f, 1e15f}) {
      Case c(10, {6, 3, 48, 40, 2, 16});
      c.activation = activation;
      for (float& x : c.x) x = RoundToBf16(x * scale);
      ExpectMatchesReference(c, "far gates");
    }
}

TEST(Moe, MatchesTheReferenceWithQuantisedExperts) {
  for (const Shape& shape :
       {Shape{1, 4, 64, 32, 2, 32}, {7, 3, 300, 150, 2, 20}, {60, 5, 140, 33, 2, 130}})
    for (const WeightLayout layout : {kFp8Channel, kFp8Block, kInt8, kInt4, kInt4Zeros})
      for (const Rounding rounding : {Rounding::kBf16, Rounding::kNone}) {
        const bool mixed = rounding == Rounding::kNone;
        Case c(shape.tokens, shape, layout, mixed ? kBf16 : layout);
        c.rounding = rounding;
        ExpectMatchesReference(c,
                               LayoutName(layout) + " " + std::to_string(shape.tokens) + " tokens");
      }
}

// The tolerance is that of rounded results: where a code lies near a rounding border, fp32 and
// double fall on different sides.
TEST(Moe, MatchesTheReferenceWithQuantisedRows) {
  for (const Shape& shape :
       {Shape{1, 4, 64, 32, 2, 32}, {7, 3, 100, 70, 2, 20}, {20, 4, 70, 260, 2, 130}})
    for (const WeightLayout layout : {kInt8, kInt4, kInt4Zeros})
      for (const Rounding rounding : {Rounding::kBf16, Rounding::kNone}) {
        const bool mixed = rounding == Rounding::kNone;  // rows of bf16 experts stay as they are
        Case c(shape.tokens, shape, layout, mixed ? kBf16 : layout);
        c.rounding = rounding;
        On on(PlacesHere().back());
        const auto plain = c.Reference(on.exec);
        c.activations = ActivationQuant::kInt8;
        ExpectMatchesReference(c, "quantised rows, format " +
                                      std::to_string(static_cast<int>(layout.format)) + ", " +
                                      std::to_string(shape.tokens) + " tokens");
        const double error = RelativeError(c.Run(on), plain);
        EXPECT_LE(error, 3e-2);
        EXPECT_GT(error, 1e-3) << "were the rows quantised?";
      }
}

// Against doubles from the held weights to the output, which round and quantise nowhere.
TEST(Moe, RoundingAndQuantisingCostNoMoreThanTheyMay) {
  TestExec test;
  for (const WeightLayout layout : {kBf16, kFp8Channel, kFp8Block, kInt8, kInt4, kInt4Zeros})
    for (const ActivationQuant activations : {ActivationQuant::kNone, ActivationQuant::kInt8}) {
      Case c(16, {9, 4, 200, 150, 3, 70}, layout, layout);
      c.activations = activations;
      const bool quantised = QuantizesRows(activations, c.shared.down());
      if (activations != ActivationQuant::kNone && !quantised) continue;
      const auto exact = c.ExactReference(test.exec);
      for (const Place& place : PlacesHere(activations)) {
        On on(place);
        const auto y = c.Run(on);
        for (int64_t t = 0; t < c.s.tokens; ++t) {
          const auto row = [&](const std::vector<float>& of) {
            return std::vector<float>(of.begin() + t * 200, of.begin() + (t + 1) * 200);
          };
          const double error = RelativeError(row(y), row(exact));
          EXPECT_LE(error, quantised ? kQuantisingTolerance : kRoundingTolerance)
              << LayoutName(layout) << " " << place.name << " row " << t;
          EXPECT_GT(error, 1e-3) << "was anything rounded?";
        }
      }
    }
}

TEST(Moe, BackEndsAgreeBitForBitOnQuantisedRows) {
  Case c(3, {70, 6, 320, 700, 2, 520}, kInt8, kInt4);
  c.activations = ActivationQuant::kInt8;
  for (const char* isa : {"avx2", "auto"}) {
    std::vector<float> first;
    for (const MoeBackend backend : {MoeBackend::kEpmoe, MoeBackend::kFused, MoeBackend::kFusedV2})
      for (const int lanes : {1, 3}) {
        On on({"", backend, *LimitedMachine(isa)}, lanes);
        const auto y = c.Run(on);
        if (first.empty()) first = y;
        EXPECT_EQ(y, first) << isa << " " << static_cast<int>(backend) << " lanes " << lanes;
        EXPECT_EQ(c.Run(on, 31, 1),
                  std::vector<float>(first.begin() + 31 * 320, first.begin() + 32 * 320));
      }
  }
}

TEST(Moe, TakesAllRowsToOneExpertAndDuplicateIds) {
  Case c(1, {20, 8, 48, 40, 2, 16});
  std::fill(c.ids.begin(), c.ids.end(), 5);
  ExpectMatchesReference(c, "one expert");
}

TEST(Moe, AddsOneExpertsRowsInTheOrderOfTheirWeights) {
  // The same expert three times, with weights whose sum depends on the order.
  Case c(8, {4, 3, 40, 20, 3, 0});
  c.rounding = Rounding::kNone;
  std::fill(c.ids.begin(), c.ids.end(), 1);
  const float order[] = {0x1p30f, 1.5f, -0x1p30f};
  for (const Place& place : PlacesHere()) {
    if (place.kernel) continue;  // only bfloat16 inputs
    On on(place);
    for (size_t i = 0; i < c.weights.size(); ++i) c.weights[i] = i % 3 == 0 ? 1.0f : 0.0f;
    const auto single = c.Run(on);
    for (size_t i = 0; i < c.weights.size(); ++i) c.weights[i] = order[i % 3];
    const auto y = c.Run(on);
    for (size_t i = 0; i < y.size(); ++i) {
      float sum = 0;
      for (float w : order) sum = std::fma(w, single[i], sum);
      EXPECT_EQ(y[i], sum) << place.name;
    }
  }
}

TEST(Moe, AddsExpertsInAscendingOrderOfTheirIds) {
  Case c(8, {1, 3, 40, 20, 3, 0});
  c.rounding = Rounding::kNone;
  c.ids = {2, 0, 1};
  const std::vector<float> weights = {1.5f, 0x1p30f, -0x1p30f};  // whose sum depends on the order
  for (const Place& place : PlacesHere()) {
    if (place.kernel) continue;  // only bfloat16 inputs
    On on(place);
    std::vector<float> outputs[3];  // of experts 2, 0, 1
    for (size_t j = 0; j < 3; ++j) {
      c.weights = {0, 0, 0};
      c.weights[j] = 1;
      outputs[j] = c.Run(on);
    }
    c.weights = weights;
    const auto y = c.Run(on);
    for (size_t i = 0; i < y.size(); ++i) {
      float sum = 0;
      for (const size_t j : {1, 2, 0}) sum = std::fma(weights[j], outputs[j][i], sum);
      EXPECT_EQ(y[i], sum) << place.name;
    }
  }
}

// More tokens than FusedV2 holds sums of, and more columns; every expert's rows cross the border.
TEST(Moe, BackEndsAgreeBitForBitOnLargeBatches) {
  for (const Shape& shape :
       {Shape{2100, 3, 40, 5, 2, 8}, {2049, 2, 4200, 1, 1, 0}, {2060, 2, 33, 300, 1, 0}}) {
    Case c(11, shape);
    TestExec test(2, 256 << 20);
    std::vector<float> epmoe, fused, row;
    Moe(c.Args(epmoe, 0, shape.tokens), MoeBackend::kEpmoe, test.exec);
    for (const MoeBackend backend : {MoeBackend::kFused, MoeBackend::kFusedV2, MoeBackend::kAuto}) {
      Moe(c.Args(fused, 0, shape.tokens), backend, test.exec);
      EXPECT_EQ(epmoe, fused);
      Moe(c.Args(row, 2048, 1), backend, test.exec);
      EXPECT_TRUE(std::equal(row.begin(), row.end(), fused.begin() + 2048 * shape.hidden));
    }
  }
}

TEST(Moe, TakesZeroAndHugeWeights) {
  Case c(2, {6, 4, 48, 40, 2, 16});
  for (size_t i = 0; i < c.weights.size(); ++i) c.weights[i] = i % 2 ? 0.0f : 1e30f;
  ExpectMatchesReference(c, "huge");
}

TEST(Moe, HasNothingToDoForNoTokens) {
  for (const Place& place : PlacesHere()) {
    On on(place);
    EXPECT_TRUE(Case(3, {0, 4, 32, 16, 2, 16}).Run(on).empty());
  }
}

void ExpectRowsBitsDependOnNothingElse(const Case& c) {
  for (const Place& place : PlacesHere()) {
    On one(place, 1), two(place, 2), three(place, 3);
    const auto all = c.Run(one);
    EXPECT_EQ(c.Run(two), all) << place.name;
    EXPECT_EQ(c.Run(three), all) << place.name;
    for (int64_t t = 0; t < c.s.tokens; ++t) {
      const auto single = c.Run(two, t, 1);
      EXPECT_TRUE(std::equal(single.begin(), single.end(), all.begin() + t * c.s.hidden))
          << place.name << " row " << t;
    }
    const auto tail = c.Run(three, 13, c.s.tokens - 13);
    EXPECT_TRUE(std::equal(tail.begin(), tail.end(), all.begin() + 13 * c.s.hidden)) << place.name;
  }
}

TEST(Moe, ARowsBitsDoNotDependOnOtherRowsOrLanes) {
  const Shape shape{41, 7, 75, 37, 3, 24}, wide{30, 5, 140, 137, 2, 24};
  ExpectRowsBitsDependOnNothingElse(Case(4, shape));
  ExpectRowsBitsDependOnNothingElse(Case(4, wide, kFp8Channel, kBf16));
  ExpectRowsBitsDependOnNothingElse(Case(4, wide, kFp8Block, kFp8Block));
  ExpectRowsBitsDependOnNothingElse(Case(4, wide, kInt8, kBf16));
  ExpectRowsBitsDependOnNothingElse(Case(4, wide, kInt4Zeros, kInt4));
}

// One lane takes such experts in another way (small_experts.h) than two.
TEST(Moe, SmallExpertsHaveTheSameBitsOnOneLaneAsOnTwo) {
  SplitMix64 random(29);
  const auto up_to = [&](int64_t most) { return 1 + static_cast<int64_t>(random.Below(most)); };
  for (const Place& place : PlacesHere()) {
    if (place.backend != MoeBackend::kEpmoe) continue;
    On one(place, 1), two(place, 2);
    for (uint64_t seed = 0; seed < 24; ++seed) {
      const int64_t experts = up_to(20);
      const Shape shape{.tokens = up_to(20),
                        .experts = experts,
                        .hidden = 32 * up_to(6),
                        .intermediate = up_to(70),
                        .top_k = up_to(std::min<int64_t>(experts, 4)),
                        .shared = seed % 3 ? up_to(70) : 0};
      Case c(seed, shape);
      if (seed % 4 == 0) c.activation = Activation::kGeluTanh;
      EXPECT_EQ(c.Run(one), c.Run(two)) << place.name << " seed " << seed;
    }
  }
}

TEST(Moe, KeepsNotANumberInItsToken) {
  Case c(5, {12, 4, 48, 40, 2, 16}), dirty = c;
  dirty.x[7 * 48 + 3] = std::numeric_limits<float>::quiet_NaN();
  for (const Place& place : PlacesHere()) {
    On on(place);
    const auto clean = c.Run(on), out = dirty.Run(on);
    for (int64_t i = 0; i < 12 * 48; ++i) {
      if (i / 48 == 7)
        EXPECT_TRUE(std::isnan(out[i])) << place.name;
      else
        EXPECT_EQ(out[i], clean[i]) << place.name;
    }
  }
}

TEST(Moe, TakesNoMoreScratchThanItSays) {
  for (const Shape shape :
       {Shape{1, 1, 1, 1, 1, 1}, {17, 5, 65, 33, 3, 47}, {64, 40, 32, 16, 8, 0}}) {
    Case c(6, shape);
    for (const Place& place : PlacesHere()) {
      On on(place, 3);
      c.Run(on);
      const uint64_t bytes =
          MoeScratchBytes(place.backend, shape.tokens, shape.top_k, shape.hidden,
                          std::max(shape.intermediate, shape.shared), shape.experts);
      EXPECT_LE(on.exec.scratch.used_max(), bytes) << place.name;
      EXPECT_EQ(on.exec.scratch.used(), 0u);
    }
  }
}

TEST(Moe, AutoTakesTheScratchOfTheBackEndThatItChooses) {
  constexpr int64_t kTokensMax = 70;
  Case c(6, {kTokensMax, 3, 64, 32, 2, 16});
  const auto bytes = [&](MoeBackend backend, int64_t tokens) {
    return MoeScratchBytes(backend, tokens, c.s.top_k, c.s.hidden, c.s.intermediate, c.s.experts);
  };
  EXPECT_EQ(bytes(MoeBackend::kAuto, 1),
            std::max(bytes(MoeBackend::kEpmoe, 1), bytes(MoeBackend::kFusedV2, 1)));
  EXPECT_EQ(bytes(MoeBackend::kAuto, 4096), bytes(MoeBackend::kFusedV2, 4096));
  EXPECT_LT(bytes(MoeBackend::kAuto, 4096), bytes(MoeBackend::kEpmoe, 4096) / 2);
  std::vector<float> y, expected;
  for (int64_t tokens = 1; tokens <= kTokensMax; ++tokens) {
    TestExec test(2);
    Moe(c.Args(expected, 0, tokens), MoeBackend::kEpmoe, test.exec);
    TestExec fresh(2);
    Moe(c.Args(y, 0, tokens), MoeBackend::kAuto, fresh.exec);
    EXPECT_EQ(y, expected) << tokens;
    EXPECT_LE(fresh.exec.scratch.used_max(), bytes(MoeBackend::kAuto, kTokensMax)) << tokens;
  }
}

// What `sluice bench moe --trace` shows; enough rows that weights are unpacked into scratch.
TEST(Moe, RecordsItsStagesOnEveryBackEndAndKernel) {
  for (const auto& [layout, activations] : {std::pair(kBf16, ActivationQuant::kNone),
                                            {kFp8Channel, ActivationQuant::kNone},
                                            {kInt4, ActivationQuant::kNone},
                                            {kInt8, ActivationQuant::kInt8},
                                            {kInt4Zeros, ActivationQuant::kInt8}}) {
    Case c(15, {90, 3, 96, 80, 2, 48}, layout, layout);
    c.activations = activations;
    for (const Place& place : PlacesHere(activations)) {
      On on(place, 2);
      trace::Reset();
      trace::Enable(trace::Level::kStages);
      c.Run(on);
      trace::Disable();
      std::set<std::string> stages;
      for (const trace::Event& event : trace::Events()) stages.insert(event.name);
      for (const char* stage :
           {"sort", "gather", "gate/up", "activation", "down", "combine", "waiting"})
        EXPECT_TRUE(stages.contains(stage))
            << LayoutName(layout) << " " << place.name << " " << stage;
      // Quantised rows: with AVX-512 every register block unpacks on its way.
      const bool decodes = layout == kFp8Channel || layout == kInt4;
      EXPECT_TRUE(!decodes || stages.contains("unpack")) << LayoutName(layout) << " " << place.name;
    }
  }
  trace::Reset();
}

TEST(DenseFfn, IsTheSharedExpertAlone) {
  // A mixture whose routed weights are zero adds nothing but zeros to the shared expert.
  Case c(7, {9, 2, 70, 30, 1, 90});
  std::fill(c.weights.begin(), c.weights.end(), 0.0f);
  for (const Place& place : PlacesHere()) {
    if (place.kernel) continue;  // DenseFfn takes the machine's choice
    On on(place);
    std::vector<float> y;
    const MoeArgs args = c.Args(y, 0, 9);
    DenseFfn({.x = args.x,
              .weights = &c.shared,
              .rounding = c.rounding,
              .bf16_inputs = true,
              .y = args.y},
             on.exec);
    EXPECT_LE(on.exec.scratch.used_max(), MoeScratchBytes(place.backend, 9, 1, 70, 90, 1));
    EXPECT_EQ(y, c.Run(on)) << place.name;
  }
}

TEST(ExpertWeights, ALayerHoldsSeparateExpertsInOneAllocation) {
  auto layer = ExpertWeights::AllocateLayer(3, 40, 20);
  ASSERT_TRUE(layer.ok());
  for (int64_t e = 0; e < 3; ++e) {
    const std::vector<float> ones(40 * 20, static_cast<float>(e + 1));
    (*layer)[e].PackGate(View<const float, 2>(ones.data(), {20, 40}));
    (*layer)[e].PackUp(View<const float, 2>(ones.data(), {20, 40}));
    (*layer)[e].PackDown(View<const float, 2>(ones.data(), {40, 20}));
  }
  for (int64_t e = 0; e < 3; ++e) {
    const ExpertWeights& expert = (*layer)[e];
    EXPECT_EQ(expert.gate_up().At(0, 39), e + 1);           // gate 0
    EXPECT_EQ(expert.gate_up().At(16 + 32 + 3, 0), e + 1);  // up 19
    EXPECT_EQ(expert.gate_up().At(32 + 4, 0), 0);           // gate 20: padding
    EXPECT_EQ(expert.down().At(39, 19), e + 1);
    EXPECT_EQ(expert.bytes(), expert.gate_up().bytes() + expert.down().bytes());
  }
}

// Rows of gate and up are 16 | 16 in a panel, and 128 rows of the file share a row of scales.
TEST(ExpertWeights, InterleavesTheScalesOfGateAndUp) {
  for (const WeightLayout layout : {kFp8Channel, kFp8Block}) {
    const int64_t hidden = 150, intermediate = 200, per_scale = layout == kFp8Block ? 128 : 1;
    ExpertWeights e = std::move(*ExpertWeights::Allocate(layout, hidden, intermediate));
    const int64_t blocks = e.gate_up().scale_blocks();
    const int64_t rows = (intermediate + per_scale - 1) / per_scale;
    std::vector<float> gate(rows * blocks), up(rows * blocks);
    std::iota(gate.begin(), gate.end(), 1.0f);
    std::iota(up.begin(), up.end(), 1000.0f);
    std::vector<uint8_t> codes(intermediate * hidden);
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i % 0x7F);
    const View<const uint8_t, 2> view(codes.data(), {intermediate, hidden});
    e.PackGateCodes(view);
    e.PackUpCodes(view);
    e.SetGateScales(View<const float, 2>(gate.data(), {rows, blocks}), per_scale);
    e.SetUpScales(View<const float, 2>(up.data(), {rows, blocks}), per_scale);
    for (int64_t r = 0; r < intermediate; ++r)
      for (int64_t i = 0; i < hidden; ++i) {
        const int64_t output = r / 16 * 32 + r % 16;
        const int64_t at = r / per_scale * blocks + (layout == kFp8Block ? i / 128 : 0);
        ASSERT_EQ(e.gate_up().At(output, i), E4M3ToFloat(view(r, i)) * gate[at]);
        ASSERT_EQ(e.gate_up().At(output + 16, i), E4M3ToFloat(view(r, i)) * up[at]);
      }
    EXPECT_EQ(e.gate_up().At(200 / 16 * 32 + 9, 0), 0);  // gate 209: padding
    EXPECT_EQ(e.bytes(), ExpertWeights::Bytes(layout, hidden, intermediate));
  }
}

TEST(MoeBackend, IsNamedOrRefused) {
  EXPECT_EQ(*ParseMoeBackend("auto"), MoeBackend::kAuto);
  EXPECT_EQ(*ParseMoeBackend("epmoe"), MoeBackend::kEpmoe);
  EXPECT_EQ(*ParseMoeBackend("fused"), MoeBackend::kFused);
  EXPECT_EQ(*ParseMoeBackend("fused_v2"), MoeBackend::kFusedV2);
  EXPECT_THAT(ParseMoeBackend("fast").status().message(),
              testing::HasSubstr("auto, epmoe, fused, fused_v2"));
}

TEST(MoeAblation, IsNamedOrRefused) {
  const auto parse = [](std::vector<std::string> parts, MoeBackend backend) {
    return ParseMoeAblation(parts, backend);
  };
  const auto both = parse({"shared", "overlap"}, MoeBackend::kFusedV2);
  ASSERT_TRUE(both.ok());
  EXPECT_TRUE(!both->shared && both->prefetch && both->residency && !both->overlap);
  const auto others = parse({"prefetch", "residency"}, MoeBackend::kFusedV2);
  ASSERT_TRUE(others.ok());
  EXPECT_TRUE(others->shared && !others->prefetch && !others->residency && others->overlap);
  EXPECT_TRUE(parse({}, MoeBackend::kEpmoe).ok());
  const auto says = [&](std::vector<std::string> parts, MoeBackend backend) {
    return parse(std::move(parts), backend).status().message();
  };
  EXPECT_THAT(says({"speed"}, MoeBackend::kFusedV2),
              testing::HasSubstr("shared, prefetch, residency, overlap, codes"));
  EXPECT_THAT(says({"prefetch"}, MoeBackend::kEpmoe), testing::HasSubstr("only fused_v2"));
  EXPECT_THAT(says({"residency"}, MoeBackend::kFused), testing::HasSubstr("fused already"));
}

// What each lane was asked to multiply, in order.
struct Asked {
  std::mutex mutex;
  std::map<std::thread::id, std::vector<PanelProduct>> by_lane;
};
Asked asked;

void Ask(const PanelProduct& product) {
  const std::scoped_lock lock(asked.mutex);
  asked.by_lane[std::this_thread::get_id()].push_back(product);
}

TEST(FusedV2, NamesTheWeightsThatALaneMultipliesNext) {
  constexpr PanelKernel kAsks{"asks", 0, true, {Ask, Ask, Ask, Ask}};
  for (const int64_t shared : {0, 290})
    for (const int lanes : {1, 3}) {
      const Case c(15, {33, 5, 300, 530, 3, shared});
      TestExec test(lanes);
      std::vector<float> y;
      asked.by_lane.clear();
      FusedV2(c.Args(y, 0, c.s.tokens), {}, kAsks, nullptr, test.exec);
      ASSERT_EQ(asked.by_lane.size(), lanes);
      for (const auto& [lane, products] : asked.by_lane) {
        for (size_t i = 0; i + 1 < products.size(); ++i)
          EXPECT_EQ(products[i].next,
                    products[i + 1].weight->panel<std::byte>(products[i + 1].panel_begin))
              << "product " << i << " of " << products.size() << ", " << lanes << " lanes";
        EXPECT_EQ(products.back().next, nullptr);
      }
    }
}

// Each part alone, and all at once.
TEST(MoeAblation, ChangesNoBit) {
  for (const WeightLayout layout : {kBf16, kFp8Channel, kFp8Block, kInt8, kInt4Zeros}) {
    Case c(14, {33, 5, 300, 530, 3, 290}, layout, layout);
    c.activations = ActivationQuant::kInt8;  // of which bf16 and fp8 weights take no notice
    TestExec test(3);
    std::vector<float> whole, y;
    Moe(c.Args(whole, 0, c.s.tokens), MoeBackend::kEpmoe, test.exec);
    for (const MoeAblation ablation : {MoeAblation{},
                                       {.shared = false},
                                       {.prefetch = false},
                                       {.residency = false},
                                       {.overlap = false},
                                       {.codes = false},
                                       {.shared = false,
                                       .prefetch = false,
                                       .residency = false,
                                       .overlap = false,
                                       .codes = false}})
      for (const int lanes : {1, 3}) {
        TestExec on(lanes);
        MoeArgs args = c.Args(y, 0, c.s.tokens);
        args.ablation = ablation;
        Moe(args, MoeBackend::kFusedV2, on.exec);
        EXPECT_EQ(y, whole) << ablation.shared << ablation.prefetch << ablation.residency
                            << ablation.overlap << ablation.codes << " " << lanes;
      }
  }
}

}  // namespace
}  // namespace sluice
