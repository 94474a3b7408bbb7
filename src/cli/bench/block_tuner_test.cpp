#include "cli/bench/block_tuner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice {
namespace {

TEST(BlockTuner, KeepsOnlyWhatWinsByMoreThanNoise) {
  EXPECT_TRUE(Wins({0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 1.3}));
  EXPECT_FALSE(Wins({0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 1.01, 1.3}));  // two lost
  EXPECT_FALSE(Wins(std::vector<double>(9, 0.98)));                          // too little
  EXPECT_FALSE(Wins(std::vector<double>(9, 1.1)));
}

TEST(BlockTuner, TriesOneChangeAtATimeAndMergesThem) {
  BlockSizes all;
  const auto merged = [](WeightFormat format, ActivationQuant activations) {
    BlockSizes all;
    for (const BlockSizes& sizes : BlockSizesToTry(format, activations)) {
      EXPECT_NE(sizes, BlockSizes());
      all = Merged(all, sizes);
    }
    return all;
  };
  EXPECT_EQ(merged(WeightFormat::kFp8E4M3, ActivationQuant::kNone),
            (BlockSizes{288, 1 << 20, 16, 8, 0, false}));
  EXPECT_EQ(merged(WeightFormat::kBf16, ActivationQuant::kNone),
            (BlockSizes{288, 1 << 20, 16, -1, 0, false}));  // nothing to decode
  EXPECT_EQ(merged(WeightFormat::kInt4, ActivationQuant::kInt8),
            (BlockSizes{288, 1 << 20, 0, 8, 12, false}));
}

TEST(BlockTuner, WritesALineThatHoldsForPowersOfTwo) {
  const TuneTask task{.label = "L, 512 tokens",
                      .kernel = "avx512",
                      .format = WeightFormat::kFp8E4M3,
                      .activations = ActivationQuant::kNone,
                      .lanes = 2,
                      .rows = 33,
                      .inputs_min = 768,
                      .inputs_max = 2048,
                      .prepare = {},
                      .run = {}};
  EXPECT_EQ(
      TableLine(task, {.rows = 96, .prefetch = false}, 0.951, "M"),
      "{\"avx512\", WeightFormat::kFp8E4M3, ActivationQuant::kNone, 2, 32, 64, 512, 4096, {96, "
      "0, 0, -1, 0, false}},  // M: 0.95 of the formula's time, L, 512 tokens\n");
}

}  // namespace
}  // namespace sluice
