#include "kernels/rope/rope.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/rope/variants.h"
#include "kernels/testing.h"

namespace sluice {
namespace {

TEST(Rope, EveryVariantMatchesTheReference) {
  TestExec serial;
  for (const auto& variant : RopeVariants())
    for (const int64_t rotary : {2, 6, 16, 18, 32, 50, 64})
      for (const RopeLayout layout : {RopeLayout::kNeox, RopeLayout::kInterleaved})
        for (const Rounding rounding : {Rounding::kBf16, Rounding::kNone}) {
          SplitMix64 random(rotary);
          const int64_t width = rotary + 5, half = rotary / 2;
          auto expected = RandomFloats(random, 3 * 2 * width);
          auto actual = expected;
          auto cos = RandomFloats(random, 3 * half), sin = RandomFloats(random, 3 * half);
          const RopeTable table{{cos.data(), {3, half}}, {sin.data(), {3, half}}};
          RopeReference({{expected.data(), {3, 2, width}}, table, layout, rounding}, serial.exec);
          variant.run({{actual.data(), {3, 2, width}}, table, layout, rounding}, serial.exec);
          EXPECT_LE(RelativeError(actual, expected), rounding == Rounding::kNone ? 1e-6 : 1e-3)
              << variant.name << " rotary " << rotary;
          for (int64_t head = 0; head < 6; ++head)  // what is not rotated passes unchanged
            for (int64_t i = rotary; i < width; ++i)
              EXPECT_EQ(actual[head * width + i], expected[head * width + i]);
        }
}

TEST(RopeFrequencies, TheExtrapolationFactorIsWhatFastDimensionsKeep) {
  YarnParams yarn{.factor = 8, .original_max_position = 4096, .attention_factor = 1};
  const RopeFrequencies plain = MakeRopeFrequencies(64, 1e4, nullptr);
  const RopeFrequencies whole = MakeRopeFrequencies(64, 1e4, &yarn);
  EXPECT_FLOAT_EQ(whole.inverse[0], plain.inverse[0]);
  EXPECT_FLOAT_EQ(whole.inverse[31], plain.inverse[31] / 8);
  EXPECT_EQ(whole.magnitude, 1);
  yarn.extrapolation_factor = 0;
  const RopeFrequencies none = MakeRopeFrequencies(64, 1e4, &yarn);
  yarn.extrapolation_factor = 0.25;
  const RopeFrequencies quarter = MakeRopeFrequencies(64, 1e4, &yarn);
  for (int i = 0; i < 32; ++i) {
    EXPECT_FLOAT_EQ(none.inverse[i], plain.inverse[i] / 8);
    EXPECT_FLOAT_EQ(quarter.inverse[i], 0.75f * none.inverse[i] + 0.25f * whole.inverse[i]);
  }
}

TEST(RopeFrequencies, MatchPublishedNumbers) {
  const RopeFrequencies plain = MakeRopeFrequencies(64, 6e6, nullptr);
  EXPECT_FLOAT_EQ(plain.inverse[0], 1);
  EXPECT_FLOAT_EQ(plain.inverse[1], 0.6140203621f);
  EXPECT_FLOAT_EQ(plain.inverse[31], 2.71435081e-07f);
  const YarnParams yarn{.factor = 2, .original_max_position = 131072};
  const RopeFrequencies stretched = MakeRopeFrequencies(64, 6e6, &yarn);
  EXPECT_FLOAT_EQ(stretched.magnitude, 1.0693147181f);
  EXPECT_FLOAT_EQ(stretched.inverse[13], plain.inverse[13]);      // low = 13: still unchanged
  EXPECT_FLOAT_EQ(stretched.inverse[21], plain.inverse[21] / 2);  // high = 21: stretched whole
  EXPECT_LT(stretched.inverse[17], plain.inverse[17]);
  EXPECT_GT(stretched.inverse[17], plain.inverse[17] / 2);

  YarnParams stated = yarn;
  stated.attention_factor = 1.5;
  EXPECT_EQ(MakeRopeFrequencies(64, 6e6, &stated).magnitude, 1.5f);
}

TEST(FillRopeTable, KeepsFullPhasePrecisionAtLongPositions) {
  TestExec serial;
  const RopeFrequencies frequencies = MakeRopeFrequencies(64, 6e6, nullptr);
  std::vector<float> cos(2 * 32), sin(2 * 32);
  const std::vector<int32_t> positions = {0, 131071};
  FillRopeTable(frequencies, positions, Rounding::kNone,
                {{cos.data(), {2, 32}}, {sin.data(), {2, 32}}}, serial.exec);
  EXPECT_EQ(cos[0], 1);
  EXPECT_EQ(sin[5], 0);
  EXPECT_FLOAT_EQ(cos[32], static_cast<float>(std::cos(131071.0)));
  EXPECT_FLOAT_EQ(sin[32], static_cast<float>(std::sin(131071.0)));
}

TEST(FillRopeTable, HasNothingToDoForNoFrequencies) {
  TestExec serial;
  const std::vector<int32_t> positions = {0, 7};
  const RopeTable table = MakeRopeTable({}, positions, Rounding::kNone, serial.exec);
  EXPECT_EQ(table.cos.dim(1), 0);
}

TEST(FillRopeTable, KeptRowsHaveTheSameBits) {
  TestExec serial;
  const std::vector<int32_t> positions = {0, 1, 99, 100, 101, 5000, 1 << 17};
  const auto rows = static_cast<int64_t>(positions.size());
  for (const int64_t kept : {0, 1, 101, 1 << 20})
    for (const Rounding rounding : {Rounding::kBf16, Rounding::kNone})
      for (const Rounding kept_rounding : {Rounding::kBf16, Rounding::kNone}) {
        const RopeFrequencies plain = MakeRopeFrequencies(64, 1e4, nullptr);
        const RopeFrequencies frequencies = WithKeptRows(plain, kept, kept_rounding);
        EXPECT_LE(frequencies.kept.size() * sizeof(float), 1u << 20);
        std::vector<float> cos(rows * 32), sin(cos), expected_cos(cos), expected_sin(cos);
        FillRopeTable(frequencies, positions, rounding,
                      {{cos.data(), {rows, 32}}, {sin.data(), {rows, 32}}}, serial.exec);
        FillRopeTable(plain, positions, rounding,
                      {{expected_cos.data(), {rows, 32}}, {expected_sin.data(), {rows, 32}}},
                      serial.exec);
        EXPECT_EQ(cos, expected_cos);
        EXPECT_EQ(sin, expected_sin);
      }
}

}  // namespace
}  // namespace sluice
