#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/random.h"
#include "formats/int4/quantize.h"
#include "formats/packed_matrix.h"

namespace sluice {
namespace {

// Half a step, but for the rounding of the quotient: the scale is rounded up to bfloat16 before.
TEST(QuantizeInt4, IsWithinHalfAStepOfEveryWeight) {
  SplitMix64 random(1);
  for (const auto& [rows, columns] :
       {std::pair<int64_t, int64_t>{1, 1}, {3, 200}, {66, 257}, {20, 256}})
    for (const int64_t group : {32, 64, 128})
      for (const bool zero_points : {false, true})
        for (const float mean : {0.0f, 2.0f, -2.0f}) {
          std::vector<float> w(static_cast<size_t>(rows * columns));
          for (float& x : w) x = (random.Normal() + mean) * std::exp(2 * random.Normal());
          for (int c = 0; c < columns && rows > 1; ++c) w[static_cast<size_t>(columns + c)] = 0;
          const View<const float, 2> view(w.data(), {rows, columns});
          const Int4Quantized q = QuantizeInt4(view, group, zero_points);
          EXPECT_EQ(q.groups, (columns + group - 1) / group);
          EXPECT_EQ(q.zero_points.empty(), !zero_points);
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t c = 0; c < columns; ++c) {
              const double scale = q.Scales()(r, c / group);
              const int zero = zero_points ? q.ZeroPoints()(r, c / group) : kInt4Zero;
              EXPECT_LE(std::fabs((q.Codes()(r, c) - zero) * scale - view(r, c)),
                        std::fabs(scale) / 2 * (1 + 1e-6))
                  << "group " << group << " zero " << zero << " at " << r << "," << c;
              EXPECT_LE(q.Codes()(r, c), 15);
              if (rows > 1 && r == 1) {
                EXPECT_EQ(q.Codes()(r, c), zero);
              }
            }
        }
}

TEST(QuantizeInt4, GivesTheLargerSideTheEighthStep) {
  for (const float sign : {1.0f, -1.0f}) {
    const Int4Group group =
        ChooseInt4Group(std::min(sign * 4, -sign * 3), std::max(sign * 4, -sign * 3), false);
    EXPECT_EQ(ToFloat(group.scale), -sign * 0.5f);
    EXPECT_EQ(Int4Code(sign * 4, group), 0);
    EXPECT_EQ(Int4Code(-sign * 3, group), 14);
    EXPECT_EQ(Int4Code(0, group), 8);
  }
  const Int4Group even = ChooseInt4Group(-7.5f, 7.5f, false);  // neither side: both need 7.5
  EXPECT_EQ(ToFloat(even.scale), 1);
  EXPECT_EQ(Int4Code(-7.5f, even), 0);
  EXPECT_EQ(Int4Code(7.5f, even), 15);
}

TEST(QuantizeInt4, HoldsOneSidedGroupsTwiceAsFineWithZeroPoints) {
  const Int4Group group = ChooseInt4Group(1, 15, true);
  EXPECT_EQ(ToFloat(group.scale), 1);
  EXPECT_EQ(group.zero, 0);
  const Int4Group below = ChooseInt4Group(-15, -1, true);
  EXPECT_EQ(below.zero, 15);
  EXPECT_EQ(Int4Code(-15, below), 0);
}

TEST(QuantizeInt4, TakesTheLeastAndTheLargestFloats) {
  for (const bool zero_points : {false, true}) {
    const Int4Group large = ChooseInt4Group(-3.4e38f, 3.4e38f, zero_points);
    EXPECT_TRUE(std::isfinite(ToFloat(large.scale)));
    for (const float w : {-3.4e38f, 3.4e38f}) {
      const double scale = ToFloat(large.scale);
      EXPECT_LE(std::fabs((Int4Code(w, large) - large.zero) * scale - w), scale / 2 * (1 + 1e-6));
    }
    const Int4Group small = ChooseInt4Group(0, 0x1p-149f, zero_points);
    EXPECT_EQ(Int4Code(0, small), small.zero);
  }
}

struct Shape {
  int64_t outputs, inputs;
};
constexpr Shape kShapes[] = {{1, 1}, {8, 16}, {33, 31}, {70, 65}, {5, 128}, {40, 600}, {300, 130}};

// All codes, in two pieces that do not begin at a panel; codes before zero points and after.
TEST(PackedInt4, ReadsBackEveryCodeScaleAndZeroPointOfRaggedShapes) {
  SplitMix64 random(2);
  for (const auto& [outputs, inputs] : kShapes)
    for (const int64_t cut : {outputs / 2, outputs / 8 * 8, int64_t{0}})
      for (const int64_t group : {32, 64, 128})
        for (const bool zero_points : {false, true}) {
          auto packed =
              PackedMatrix::Allocate({WeightFormat::kInt4, group, zero_points}, outputs, inputs);
          ASSERT_TRUE(packed.ok());
          const int64_t blocks = packed->scale_blocks();
          ASSERT_EQ(blocks, (inputs + group - 1) / group);
          std::vector<uint8_t> codes(static_cast<size_t>(outputs * inputs));
          for (uint8_t& c : codes) c = static_cast<uint8_t>(random.Below(16));
          std::vector<float> scales(static_cast<size_t>(outputs * blocks));
          for (float& s : scales) s = RoundToBf16(random.Normal());
          std::vector<uint8_t> zeros(static_cast<size_t>(outputs * blocks), kInt4Zero);
          if (zero_points)
            for (uint8_t& z : zeros) z = static_cast<uint8_t>(random.Below(16));
          const View<const uint8_t, 2> all(codes.data(), {outputs, inputs});
          const View<const float, 2> scale(scales.data(), {outputs, blocks});
          const View<const uint8_t, 2> zero(zeros.data(), {outputs, blocks});
          packed->PackCodes(0, all.Rows(0, cut));
          if (zero_points) packed->SetZeroPoints(0, zero);
          packed->PackCodes(cut, all.Rows(cut, outputs - cut));
          packed->SetScales(0, outputs, scale, 1);
          for (int64_t o = 0; o < packed->panels() * kPanelOutputs; ++o)
            for (int64_t i = 0; i < packed->padded_inputs(); ++i) {
              const uint8_t byte = packed->panel<uint8_t>(o / 32)[i / 8 * 128 + o % 32 * 4 + i % 4];
              const int found = i % 8 < 4 ? byte & 15 : byte >> 4;
              if (o >= outputs) {
                ASSERT_EQ(found, 0);
                continue;
              }
              const int64_t block = std::min(i / group, blocks - 1);
              if (i >= inputs) {
                ASSERT_EQ(found, zero(o, block))
                    << outputs << "x" << inputs << " at " << o << "," << i;
                continue;
              }
              ASSERT_EQ(found, all(o, i)) << outputs << "x" << inputs << " at " << o << "," << i;
              ASSERT_EQ(packed->Unscaled(o, i), static_cast<float>(found - zero(o, block)));
              ASSERT_EQ(packed->Scale(o, i), scale(o, block));
              ASSERT_EQ(packed->ExactAt(o, i), (found - zero(o, block)) * double{scale(o, block)});
            }
        }
}

TEST(PackedInt4, PacksFloatsAndBfloat16sAsTheQuantiserDoes) {
  SplitMix64 random(3);
  for (const auto& [outputs, inputs] : kShapes)
    for (const int64_t group : {32, 64, 128})
      for (const bool zero_points : {false, true}) {
        std::vector<float> w(static_cast<size_t>(outputs * inputs));
        for (float& x : w) x = RoundToBf16(random.Normal());
        if (outputs > 1) std::fill_n(w.begin() + inputs, inputs, 0.0f);
        std::vector<Bf16> narrow;
        narrow.reserve(w.size());
        for (const float x : w) narrow.push_back(ToBf16(x));
        const View<const float, 2> view(w.data(), {outputs, inputs});
        const Int4Quantized q = QuantizeInt4(view, group, zero_points);
        const WeightLayout layout{WeightFormat::kInt4, group, zero_points};
        auto a = PackedMatrix::Allocate(layout, outputs, inputs);
        auto b = PackedMatrix::Allocate(layout, outputs, inputs);
        ASSERT_TRUE(a.ok() && b.ok());
        a->Pack(0, view);
        b->Pack(0, View<const Bf16, 2>(narrow.data(), {outputs, inputs}));
        for (int64_t o = 0; o < outputs; ++o)
          for (int64_t i = 0; i < inputs; ++i)
            for (const PackedMatrix* packed : {&*a, &*b}) {
              const int zero = zero_points ? q.ZeroPoints()(o, i / group) : kInt4Zero;
              ASSERT_EQ(packed->Unscaled(o, i), static_cast<float>(q.Codes()(o, i) - zero))
                  << outputs << "x" << inputs << " at " << o << "," << i;
              ASSERT_EQ(packed->Scale(o, i), q.Scales()(o, i / group));
            }
      }
}

TEST(PackedInt4, TakesHalfAByteAWeightAndTwoOrThreeAGroup) {
  const WeightLayout plain{WeightFormat::kInt4, 128}, zeros{WeightFormat::kInt4, 32, true};
  EXPECT_EQ(PackedMatrix::Bytes(plain, 4096, 1024), 4096u * 1024 / 2 + 4096 * 8 * 2);
  EXPECT_EQ(PackedMatrix::Bytes(zeros, 4096, 1024), 4096u * 1024 / 2 + 4096 * 32 * 3);
  EXPECT_EQ(PackedMatrix::Bytes(zeros, 1, 1) % 64, 0u);
}

}  // namespace
}  // namespace sluice
