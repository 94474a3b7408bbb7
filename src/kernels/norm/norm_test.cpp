#include "kernels/norm/norm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/norm/variants.h"
#include "kernels/testing.h"

namespace sluice {
namespace {

// fp32 sums of up to 2,000 squares: a few ulp. With rounding, now and then a value lies within
// that of a rounding border and lands one bfloat16 step away (2^-8); over a row that stays small.
constexpr double kTolerance = 2e-6;
constexpr double kToleranceRounded = 1e-3;
const int64_t kWidths[] = {1, 7, 8, 15, 16, 33, 64, 100, 256, 2047};

double Tolerance(Rounding rounding) {
  return rounding == Rounding::kBf16 ? kToleranceRounded : kTolerance;
}

TEST(RmsNorm, EveryVariantMatchesTheReference) {
  TestExec serial;
  for (const auto& variant : RmsNormVariants())
    for (const int64_t width : kWidths)
      for (const Rounding rounding : {Rounding::kBf16, Rounding::kNone}) {
        SplitMix64 random(width);
        const auto x = RandomFloats(random, 5 * 3 * width, 3);
        const auto weight = RandomFloats(random, width);
        std::vector<float> expected(x.size()), actual(x.size());
        RmsNormArgs args{{x.data(), {5, 3, width}},
                         weight.data(),
                         1e-6f,
                         rounding,
                         {expected.data(), {5, 3, width}}};
        RmsNormReference(args, serial.exec);
        args.y = {actual.data(), {5, 3, width}};
        variant.run(args, serial.exec);
        EXPECT_LE(RelativeError(actual, expected), Tolerance(rounding)) << variant.name << width;
      }
}

TEST(AddRmsNorm, EveryVariantMatchesTheReference) {
  TestExec serial;
  for (const auto& variant : AddRmsNormVariants())
    for (const int64_t width : kWidths)
      for (const Rounding rounding : {Rounding::kBf16, Rounding::kNone}) {
        SplitMix64 random(width);
        auto residual = RandomFloats(random, 4 * width, 3), residual_expected = residual;
        const auto delta = RandomFloats(random, 4 * width), weight = RandomFloats(random, width);
        std::vector<float> expected(delta.size()), actual(delta.size());
        AddRmsNormReference({{residual_expected.data(), {4, width}},
                             {delta.data(), {4, width}},
                             weight.data(),
                             1e-6f,
                             rounding,
                             {expected.data(), {4, width}}},
                            serial.exec);
        variant.run({{residual.data(), {4, width}},
                     {delta.data(), {4, width}},
                     weight.data(),
                     1e-6f,
                     rounding,
                     {actual.data(), {4, width}}},
                    serial.exec);
        EXPECT_EQ(residual, residual_expected) << variant.name;  // one exact sum, one rounding
        EXPECT_LE(RelativeError(actual, expected), Tolerance(rounding)) << variant.name << width;
      }
}

TEST(SandwichNorm, EveryVariantMatchesTheReference) {
  TestExec serial;
  for (const auto& variant : SandwichNormVariants())
    for (const int64_t width : kWidths)
      for (const Rounding rounding : {Rounding::kBf16, Rounding::kNone}) {
        SplitMix64 random(width);
        const bool bf16 = rounding == Rounding::kBf16;
        auto residual = RandomFloats(random, 4 * width, 3, bf16), residual_expected = residual;
        const auto delta = RandomFloats(random, 4 * width, 5, bf16);
        const auto delta_weight = RandomFloats(random, width), weight = RandomFloats(random, width);
        std::vector<float> expected(delta.size()), actual(delta.size());
        SandwichNormArgs args{{residual_expected.data(), {4, width}},
                              {delta.data(), {4, width}},
                              delta_weight.data(),
                              weight.data(),
                              1e-5f,
                              rounding,
                              {expected.data(), {4, width}}};
        SandwichNormReference(args, serial.exec);
        args.residual = {residual.data(), {4, width}};
        args.y = {actual.data(), {4, width}};
        variant.run(args, serial.exec);
        EXPECT_LE(RelativeError(residual, residual_expected), Tolerance(rounding)) << variant.name;
        EXPECT_LE(RelativeError(actual, expected), Tolerance(rounding)) << variant.name << width;
      }
}

TEST(SandwichNorm, NormsTheSumBeforeItIsRounded) {
  // 256 + 1 = 257 is no bfloat16: the residual becomes 256, but the norm reads 257.
  TestExec serial;
  for (const auto& variant : SandwichNormVariants()) {
    std::vector<float> residual = {256, 0}, y(2);
    const std::vector<float> delta = {1, 1}, one = {1, 1}, small = {1.0f / 256, 1};
    variant.run({{residual.data(), {1, 2}},
                 {delta.data(), {1, 2}},
                 one.data(),
                 small.data(),
                 0,
                 Rounding::kBf16,
                 {y.data(), {1, 2}}},
                serial.exec);
    EXPECT_THAT(residual, testing::ElementsAre(256, 1));
    // 1 / rms(257, 1) = 0.0055029, where 1 / rms(256, 1) = 0.0055244 is another bfloat16.
    EXPECT_EQ(y[1], RoundToBf16(0.0055029f)) << variant.name;
    EXPECT_NE(RoundToBf16(0.0055029f), RoundToBf16(0.0055244f));
  }
}

TEST(GatedGroupNorm, EveryVariantMatchesTheReferenceAndKeepsGroupsApart) {
  TestExec serial;
  for (const auto& variant : GatedGroupNormVariants())
    for (const int64_t width : kWidths)
      for (const int groups : {1, 2, 4})
        for (const Rounding rounding : {Rounding::kBf16, Rounding::kNone}) {
          SplitMix64 random(width);
          const int64_t row = width * groups;
          auto x = RandomFloats(random, 3 * row, 2);
          const auto gate = RandomFloats(random, 3 * row, 4), weight = RandomFloats(random, row);
          for (int64_t i = 0; i < width; ++i) x[i] *= 1000;  // one loud group drowns no other
          std::vector<float> expected(x.size()), actual(x.size());
          GatedGroupNormArgs args{{x.data(), {3, row}},
                                  {gate.data(), {3, row}},
                                  weight.data(),
                                  groups,
                                  1e-6f,
                                  rounding,
                                  {expected.data(), {3, row}}};
          GatedGroupNormReference(args, serial.exec);
          args.y = {actual.data(), {3, row}};
          variant.run(args, serial.exec);
          EXPECT_LE(RelativeError(actual, expected), Tolerance(rounding) * 2)
              << variant.name << " width " << width << " groups " << groups;
        }
}

TEST(RmsNorm, ARowDoesNotDependOnItsNeighboursOrOnTheTeam) {
  SplitMix64 random(7);
  const int64_t rows = 37, width = 100;
  const auto x = RandomFloats(random, rows * width), weight = RandomFloats(random, width);
  std::vector<float> whole(x.size()), single(x.size());
  TestExec three(3), serial;
  RmsNorm({{x.data(), {rows, 1, width}},
           weight.data(),
           1e-6f,
           Rounding::kNone,
           {whole.data(), {rows, 1, width}}},
          three.exec);
  for (int64_t t = 0; t < rows; ++t)
    RmsNorm({{x.data() + t * width, {1, 1, width}},
             weight.data(),
             1e-6f,
             Rounding::kNone,
             {single.data() + t * width, {1, 1, width}}},
            serial.exec);
  EXPECT_EQ(whole, single);
}

// Short rows are normed four at a time.
TEST(Norms, ARowHasTheSameBitsAloneAsAmongOthers) {
  TestExec serial;
  for (const int64_t width : {1, 32, 33, 100, 1024, 1500})
    for (const Rounding rounding : {Rounding::kBf16, Rounding::kNone}) {
      constexpr int64_t kRows = 7, kHeads = 5;
      SplitMix64 random(width);
      const auto x = RandomFloats(random, kRows * kHeads * width, 3);
      const auto gate = RandomFloats(random, kRows * kHeads * width);
      const auto weight = RandomFloats(random, kHeads * width);
      std::vector<float> heads(x.size()), head(width);
      for (const auto& variant : RmsNormVariants()) {
        variant.run({{x.data(), {kRows, kHeads, width}},
                     weight.data(),
                     1e-6f,
                     rounding,
                     {heads.data(), {kRows, kHeads, width}}},
                    serial.exec);
        for (int64_t n = 0; n < kRows * kHeads; ++n) {
          variant.run({{x.data() + n * width, {1, 1, width}},
                       weight.data(),
                       1e-6f,
                       rounding,
                       {head.data(), {1, 1, width}}},
                      serial.exec);
          EXPECT_TRUE(std::equal(head.begin(), head.end(), heads.begin() + n * width))
              << variant.name << " head " << n << " of " << width;
        }
      }
      for (const auto& variant : AddRmsNormVariants()) {
        const int64_t wide = kHeads * width;
        auto residual = x, row_residual = x;
        std::vector<float> rows(x.size()), row(wide);
        variant.run({{residual.data(), {kRows, wide}},
                     {gate.data(), {kRows, wide}},
                     weight.data(),
                     1e-6f,
                     rounding,
                     {rows.data(), {kRows, wide}}},
                    serial.exec);
        for (int64_t n = 0; n < kRows; ++n) {
          variant.run({{row_residual.data() + n * wide, {1, wide}},
                       {gate.data() + n * wide, {1, wide}},
                       weight.data(),
                       1e-6f,
                       rounding,
                       {row.data(), {1, wide}}},
                      serial.exec);
          EXPECT_TRUE(std::equal(row.begin(), row.end(), rows.begin() + n * wide))
              << variant.name << " row " << n << " of " << wide;
        }
        EXPECT_EQ(residual, row_residual);
      }
      for (const auto& variant : GatedGroupNormVariants()) {
        const int64_t wide = kHeads * width;
        std::vector<float> groups(x.size()), group(width);
        variant.run({{x.data(), {kRows, wide}},
                     {gate.data(), {kRows, wide}},
                     weight.data(),
                     kHeads,
                     1e-6f,
                     rounding,
                     {groups.data(), {kRows, wide}}},
                    serial.exec);
        for (int64_t n = 0; n < kRows * kHeads; ++n) {
          variant.run({{x.data() + n * width, {1, width}},
                       {gate.data() + n * width, {1, width}},
                       weight.data() + n % kHeads * width,
                       1,
                       1e-6f,
                       rounding,
                       {group.data(), {1, width}}},
                      serial.exec);
          EXPECT_TRUE(std::equal(group.begin(), group.end(), groups.begin() + n * width))
              << variant.name << " group " << n << " of " << width;
        }
      }
    }
}

}  // namespace
}  // namespace sluice
