#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/random.h"
#include "formats/int8/quantize.h"
#include "formats/packed_matrix.h"

namespace sluice {
namespace {

TEST(QuantizeInt8, IsWithinHalfAStepOfEveryWeight) {
  SplitMix64 random(1);
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{1, 1}, {3, 200}, {130, 257}}) {
    std::vector<float> w(static_cast<size_t>(rows * columns));
    for (float& x : w) x = random.Normal() * std::exp(4 * random.Normal());
    for (int c = 0; c < columns && rows > 1; ++c) w[static_cast<size_t>(columns + c)] = 0;
    const View<const float, 2> view(w.data(), {rows, columns});
    const Int8Quantized q = QuantizeInt8(view);
    for (int64_t r = 0; r < rows; ++r) {
      const double scale = q.Scales()(r, 0);
      int largest = 0;
      for (int64_t c = 0; c < columns; ++c) {
        const int8_t code = q.codes[static_cast<size_t>(r * columns + c)];
        EXPECT_LE(std::fabs(code * scale - view(r, c)), scale / 2 * (1 + 1e-6));
        largest = std::max(largest, std::abs(code));
      }
      EXPECT_EQ(largest, scale == 0 ? 0 : 127) << "row " << r;  // the whole range is used
    }
  }
}

TEST(QuantizeInt8, RoundsToTheNearestTiesToEven) {
  const std::vector<float> w = {127, 0.5f, 1.5f, -0.5f, -1.5f, -2.5f, 2.49f, -127};
  const Int8Quantized q = QuantizeInt8(View<const float, 2>(w.data(), {1, 8}));
  EXPECT_EQ(q.codes, (std::vector<int8_t>{127, 0, 2, 0, -2, -2, 2, -127}));
  EXPECT_EQ(q.scales[0], 1);
}

TEST(QuantizeInt8, TakesTheLeastAndTheLargestFloats) {
  const std::vector<float> w = {0x1p-149f, 0, 3e38f, -3.4e38f};
  const Int8Quantized least = QuantizeInt8(View<const float, 2>(w.data(), {1, 2}));
  EXPECT_EQ(least.scales[0], 0);  // below half of the least float
  EXPECT_EQ(least.codes, (std::vector<int8_t>{0, 0}));
  const Int8Quantized largest = QuantizeInt8(View<const float, 2>(w.data() + 2, {1, 2}));
  EXPECT_EQ(largest.codes, (std::vector<int8_t>{112, -127}));
}

// All codes, -128 too, in two pieces that do not begin at a panel.
TEST(PackedInt8, ReadsBackEveryCodeAndScaleOfRaggedShapes) {
  SplitMix64 random(2);
  for (const auto& [outputs, inputs] :
       {std::pair{1, 1}, {8, 16}, {33, 31}, {70, 65}, {5, 128}, {100, 600}, {300, 130}})
    for (const int64_t cut : {outputs / 2, outputs / 8 * 8, 0}) {
      auto packed = PackedMatrix::Allocate({WeightFormat::kInt8}, outputs, inputs);
      ASSERT_TRUE(packed.ok());
      std::vector<uint8_t> codes(static_cast<size_t>(outputs * inputs));
      for (uint8_t& c : codes) c = static_cast<uint8_t>(random.Next());
      std::vector<float> scales(static_cast<size_t>(outputs));
      for (float& s : scales) s = random.Normal();
      const View<const uint8_t, 2> all(codes.data(), {outputs, inputs});
      const View<const float, 2> scale(scales.data(), {outputs, 1});
      packed->PackCodes(0, all.Rows(0, cut));
      packed->PackCodes(cut, all.Rows(cut, outputs - cut));
      packed->SetScales(0, outputs, scale, 1);
      for (int64_t o = 0; o < packed->panels() * kPanelOutputs; ++o)
        for (int64_t i = 0; i < packed->padded_inputs(); ++i) {
          const uint8_t found = packed->panel<uint8_t>(o / 32)[i / 4 * 128 + o % 32 * 4 + i % 4];
          if (o >= outputs || i >= inputs) {
            ASSERT_EQ(found, 0);
            continue;
          }
          ASSERT_EQ(found, all(o, i)) << outputs << "x" << inputs << " at " << o << "," << i;
          ASSERT_EQ(packed->Unscaled(o, i), static_cast<int8_t>(found));
          ASSERT_EQ(packed->Scale(o, i), scale(o, 0));
          ASSERT_EQ(packed->scales(o / 32)[o % 32], scale(o, 0));
          ASSERT_EQ(packed->At(o, i), static_cast<float>(static_cast<int8_t>(found)) * scale(o, 0));
        }
    }
}

TEST(PackedInt8, PacksFloatsAndBfloat16sAsTheQuantiserDoes) {
  SplitMix64 random(3);
  for (const auto& [outputs, inputs] : {std::pair{1, 1}, {33, 31}, {70, 65}, {16, 1100}}) {
    std::vector<float> w(static_cast<size_t>(outputs * inputs));
    std::vector<Bf16> narrow;
    for (float& x : w) {
      x = RoundToBf16(random.Normal());
      narrow.push_back(ToBf16(x));
    }
    if (outputs > 1) std::fill_n(w.begin() + inputs, inputs, 0.0f);
    if (outputs > 1) std::fill_n(narrow.begin() + inputs, inputs, Bf16{0});
    const View<const float, 2> view(w.data(), {outputs, inputs});
    const Int8Quantized q = QuantizeInt8(view);
    auto a = PackedMatrix::Allocate({WeightFormat::kInt8}, outputs, inputs);
    auto b = PackedMatrix::Allocate({WeightFormat::kInt8}, outputs, inputs);
    ASSERT_TRUE(a.ok() && b.ok());
    a->Pack(0, view);
    b->Pack(0, View<const Bf16, 2>(narrow.data(), {outputs, inputs}));
    for (int64_t o = 0; o < outputs; ++o)
      for (int64_t i = 0; i < inputs; ++i)
        for (const PackedMatrix* packed : {&*a, &*b}) {
          ASSERT_EQ(packed->Unscaled(o, i), q.codes[static_cast<size_t>(o * inputs + i)])
              << outputs << "x" << inputs << " at " << o << "," << i;
          ASSERT_EQ(packed->Scale(o, i), q.Scales()(o, 0));
        }
  }
}

TEST(PackedInt8, TakesAByteAWeightAndAFloatAnOutput) {
  EXPECT_EQ(PackedMatrix::Bytes({WeightFormat::kInt8}, 4096, 1024), 4096u * 1024 + 4096 * 4);
}

}  // namespace
}  // namespace sluice
