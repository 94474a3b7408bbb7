// What holds for every layer, on layers drawn at random: every back end on every kernel, formats,
// ragged shapes from no token up, skewed routing, rows and weights of every size. SLUICE_MOE_SEED=N
// begins with layer N.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <map>

#include "kernels/moe/moe_testing.h"

namespace sluice {
namespace {

constexpr uint64_t kLayers = 8;  // of each format

uint64_t FirstSeed() {
  const char* const text = std::getenv("SLUICE_MOE_SEED");
  return text ? std::strtoull(text, nullptr, 10) : 1;
}

int64_t OneOf(SplitMix64& random, std::initializer_list<int64_t> values) {
  return values.begin()[random.Below(values.size())];
}

// Small enough for the double reference, with widths beside and between the sizes of tiles, panels,
// scales and slices.
Shape DrawShape(SplitMix64& random) {
  Shape s;
  s.tokens = OneOf(random, {1, 2, 6, 15, 33, 66});
  s.experts = OneOf(random, {1, 2, 3, 7, 12});
  s.hidden = OneOf(random, {1, 31, 33, 64, 100, 129, 270});
  s.intermediate = OneOf(random, {1, 15, 17, 32, 70, 260});
  s.top_k = OneOf(random, {1, s.experts, 1 + static_cast<int64_t>(random.Below(s.experts))});
  s.shared = OneOf(random, {0, 1, 48, 300});
  while (s.tokens > 1 && s.tokens * s.top_k * s.hidden * s.intermediate > 1'500'000) s.tokens /= 2;
  return s;
}

// Uniform, as the case has drawn it; few experts busy; all rows to one expert; one expert k times.
void Skew(Case& c, SplitMix64& random) {
  const int64_t how = OneOf(random, {0, 1, 2, 3});
  for (int64_t t = 0; t < c.s.tokens; ++t) {
    int32_t* const ids = c.ids.data() + t * c.s.top_k;
    if (how == 1 && t % 4 > 0) std::iota(ids, ids + c.s.top_k, 0);
    if (how == 2) std::swap(ids[0], *std::max_element(ids, ids + c.s.top_k));
    if (how == 2) ids[0] = static_cast<int32_t>(c.s.experts - 1);
    if (how == 3) std::fill_n(ids, c.s.top_k, static_cast<int32_t>(t % 2 % c.s.experts));
  }
}

// Rows and routing weights of zero and of every size.
void Scale(Case& c, SplitMix64& random) {
  for (int64_t t = 0; t < c.s.tokens; ++t) {
    const float scales[] = {0, 1, 1, 0x1p-20f, 0x1p20f};
    const float scale = scales[random.Below(std::size(scales))];
    for (int64_t i = 0; i < c.s.hidden; ++i) c.x[t * c.s.hidden + i] *= scale;
  }
  const float sizes[] = {1, 1, 1, 0, 1e20f, 1e-20f};
  for (float& w : c.weights) w *= sizes[random.Below(std::size(sizes))];
}

void RepeatFirstToken(Case& c) {
  std::copy_n(c.x.begin(), c.s.hidden, c.x.end() - c.s.hidden);
  std::copy_n(c.ids.begin(), c.s.top_k, c.ids.end() - c.s.top_k);
  std::copy_n(c.weights.begin(), c.s.top_k, c.weights.end() - c.s.top_k);
}

std::vector<float> RowOf(const Case& c, const std::vector<float>& y, int64_t t) {
  return {y.begin() + t * c.s.hidden, y.begin() + (t + 1) * c.s.hidden};
}

// Of tokens 0 and the last one, which are the same.
void ExpectTwinsAgree(const Case& c, const std::vector<float>& y, const std::string& where) {
  EXPECT_EQ(RowOf(c, y, 0), RowOf(c, y, c.s.tokens - 1)) << where;
}

void ExpectNearReference(const Case& c, const std::vector<float>& y,
                         const std::vector<float>& expected, const std::string& where) {
  // A few values alone may fall on the other side of several roundings.
  const double tolerance = c.s.hidden >= 64 ? kRoundedTolerance : 4e-2;
  for (int64_t t = 0; t < c.s.tokens; ++t)
    EXPECT_LE(RelativeError(RowOf(c, y, t), RowOf(c, expected, t)), tolerance)
        << where << " row " << t;
}

// What rounding and quantising cost. Of a few values, or of those that stand out by 2^20, it is
// anything.
void ExpectNearExact(const Case& c, const std::vector<float>& y, const std::vector<float>& exact,
                     const std::string& where) {
  if (c.every_size || c.s.hidden < 64 || c.s.intermediate < 15 || c.s.shared == 1) return;
  const double tolerance =
      c.activations == ActivationQuant::kNone ? kRoundingTolerance : kQuantisingTolerance;
  for (int64_t t = 0; t < c.s.tokens; ++t)
    EXPECT_LE(RelativeError(RowOf(c, y, t), RowOf(c, exact, t)), tolerance)
        << where << " row " << t << " against doubles";
}

// One token's row is not a number: its output is none, and no other token's bits change.
void ExpectNotANumberStays(const Case& c, const std::vector<float>& clean, On& on,
                           const std::string& where) {
  Case dirty = c;
  const int64_t poisoned = c.s.tokens / 2;
  dirty.x[poisoned * c.s.hidden] = std::numeric_limits<float>::quiet_NaN();
  const auto y = dirty.Run(on);
  for (int64_t t = 0; t < c.s.tokens; ++t)
    for (int64_t i = 0; i < c.s.hidden; ++i)
      if (t == poisoned)
        EXPECT_TRUE(std::isnan(y[t * c.s.hidden + i])) << where;
      else
        EXPECT_EQ(y[t * c.s.hidden + i], clean[t * c.s.hidden + i]) << where << " row " << t;
}

void ExpectLayerHolds(const Case& c) {
  TestExec test;
  const auto expected = c.Reference(test.exec), exact = c.ExactReference(test.exec);
  std::map<std::string, std::vector<float>> by_kernel;  // back ends agree on each
  for (const Place& place : PlacesHere(c.activations)) {
    On one(place, 1), three(place, 3);
    const auto y = c.Run(one);
    const std::string kernel = place.name.substr(place.name.find(' '));
    const auto [first, is_first] = by_kernel.emplace(kernel, y);
    if (is_first) {
      ExpectNearReference(c, y, expected, place.name);
      ExpectNearExact(c, y, exact, place.name);
    }
    EXPECT_TRUE(c.Run(three, 0, 0).empty()) << place.name;
    EXPECT_EQ(y, first->second) << place.name << " and another back end";
    EXPECT_EQ(c.Run(three), y) << place.name << ", 3 lanes";
    ExpectTwinsAgree(c, y, place.name);
    for (const int64_t t : {int64_t{0}, c.s.tokens / 2})
      EXPECT_EQ(c.Run(three, t, 1), RowOf(c, y, t)) << place.name << " row " << t << " alone";
    ExpectNotANumberStays(c, y, three, place.name);
  }
}

// With rows as they are.
bool EveryKernelTakes(WeightFormat format) {
  const auto takes = [=](const PanelKernel& k) { return k.by_format[static_cast<int>(format)]; };
  return takes(kAmxEmulated) && std::ranges::all_of(PanelKernels(), takes);
}

class MoeLayers : public testing::TestWithParam<WeightLayout> {};

TEST_P(MoeLayers, AreTheSameOnEveryBackEndAndNearTheReference) {
  const WeightLayout layout = GetParam();
  for (uint64_t seed = FirstSeed(); seed < FirstSeed() + kLayers; ++seed) {
    SplitMix64 random(seed);
    const Shape s = DrawShape(random);
    SCOPED_TRACE(testing::Message()
                 << "SLUICE_MOE_SEED=" << seed << ": " << s.tokens << " tokens, " << s.experts
                 << " experts, hidden " << s.hidden << ", intermediate " << s.intermediate
                 << ", top " << s.top_k << ", shared " << s.shared);
    const bool odd_weights = random.Below(2);  // or rows and routing weights of every size
    Case c(seed, s, layout, random.Below(2) ? layout : kBf16, odd_weights);
    Skew(c, random);
    if (!odd_weights) Scale(c, random);
    if (s.tokens > 1) RepeatFirstToken(c);
    if (EveryKernelTakes(layout.format)) ExpectLayerHolds(c);
    if (layout.format == WeightFormat::kInt8 || layout.format == WeightFormat::kInt4) {
      c.activations = ActivationQuant::kInt8;
      ExpectLayerHolds(c);
    }
    if (HasFailure()) return;
  }
}

bool SameOrNoNumbers(const std::vector<float>& a, const std::vector<float>& b) {
  return std::ranges::equal(
      a, b, [](float x, float y) { return x == y || (std::isnan(x) && std::isnan(y)); });
}

// Rows of an expert that are several blocks, any of which any lane may finish and quantise.
TEST(MoeRows, AreTheSameWhicheverLaneQuantisesThem) {
  for (uint64_t seed = FirstSeed(); seed < FirstSeed() + 6; ++seed) {
    SplitMix64 random(seed);
    Shape s;
    s.tokens = 241 + static_cast<int64_t>(random.Below(500));
    s.experts = OneOf(random, {1, 2, 5});
    s.hidden = OneOf(random, {31, 64, 130});
    s.intermediate = OneOf(random, {17, 100, 160});
    s.top_k = OneOf(random, {1, s.experts / 2 + 1});
    s.shared = OneOf(random, {0, 40, 200});
    const WeightLayout layouts[] = {kInt8, kInt4, kInt4Zeros, kBf16};
    Case c(seed, s, layouts[random.Below(3)], layouts[random.Below(4)]);
    c.activations = ActivationQuant::kInt8;
    Skew(c, random);
    Scale(c, random);
    c.x[random.Below(c.x.size())] = std::numeric_limits<float>::quiet_NaN();
    SCOPED_TRACE(testing::Message()
                 << "SLUICE_MOE_SEED=" << seed << ": " << s.tokens << " tokens, " << s.experts
                 << " experts, hidden " << s.hidden << ", intermediate " << s.intermediate
                 << ", top " << s.top_k << ", shared " << s.shared);
    const auto lanes = static_cast<int>(2 + random.Below(7));
    Case apart = c;  // where every product quantises its rows
    apart.ablation.codes = false;
    for (const Place& place : PlacesHere()) {
      On one(place, 1), many(place, lanes);
      const auto y = apart.Run(one);
      for (int repeat = 0; repeat < 3; ++repeat)
        EXPECT_TRUE(SameOrNoNumbers(c.Run(many), y)) << place.name << ", " << lanes << " lanes";
      for (const int64_t t : {int64_t{0}, static_cast<int64_t>(random.Below(s.tokens))})
        EXPECT_TRUE(SameOrNoNumbers(c.Run(one, t, 1), RowOf(c, y, t)))
            << place.name << " row " << t << " alone";
    }
    if (HasFailure()) return;
  }
}

std::string NameOf(const testing::TestParamInfo<WeightLayout>& info) {
  const char* const names[] = {"bf16", "fp8", "int8", "int4"};
  return names[static_cast<int>(info.param.format)] + std::to_string(info.param.scale_inputs) +
         (info.param.zero_points ? "zeros" : "");
}

INSTANTIATE_TEST_SUITE_P(Formats, MoeLayers,
                         testing::Values(kBf16, kFp8Channel, kFp8Block, kInt8, kInt4, kInt4Zeros),
                         NameOf);

}  // namespace
}  // namespace sluice
