#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "base/random.h"
#include "formats/fp8/e4m3.h"
#include "formats/fp8/quantize.h"
#include "formats/packed_matrix.h"

namespace sluice {
namespace {

// The table of the OCP specification: value = 2^(e - 7) * 1.mmm, subnormals 2^-6 * 0.mmm.
float Defined(int code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  const float magnitude = exponent == 0
                              ? std::ldexp(static_cast<float>(mantissa), -9)
                              : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return code & 0x80 ? -magnitude : magnitude;
}

TEST(E4M3, DecodesAllCodesExactlyAndKeepsNotANumber) {
  for (int code = 0; code < 256; ++code) {
    const float value = E4M3ToFloat(static_cast<uint8_t>(code));
    if ((code & 0x7F) == 0x7F)
      EXPECT_TRUE(std::isnan(value)) << code;
    else
      EXPECT_EQ(std::bit_cast<uint32_t>(value), std::bit_cast<uint32_t>(Defined(code))) << code;
  }
  EXPECT_EQ(E4M3ToFloat(0x7E), kE4M3Max);
}

TEST(E4M3, EncodesEveryValueItDecodes) {
  for (int code = 0; code < 256; ++code) {
    if ((code & 0x7F) == 0x7F) continue;
    EXPECT_EQ(FloatToE4M3(E4M3ToFloat(static_cast<uint8_t>(code))), code);
  }
}

TEST(E4M3, RoundsToTheNearestTiesToEvenAndSaturates) {
  for (int code = 0; code < 0x7E; ++code) {
    const float low = Defined(code), high = Defined(code + 1), middle = (low + high) / 2;
    EXPECT_EQ(FloatToE4M3(std::nextafter(middle, low)), code);
    EXPECT_EQ(FloatToE4M3(std::nextafter(middle, high)), code + 1);
    EXPECT_EQ(FloatToE4M3(middle), code % 2 ? code + 1 : code);
    EXPECT_EQ(FloatToE4M3(-middle), (code % 2 ? code + 1 : code) | 0x80);
  }
  EXPECT_EQ(FloatToE4M3(1e30f), 0x7E);
  EXPECT_EQ(FloatToE4M3(-INFINITY), 0xFE);
  EXPECT_EQ(FloatToE4M3(NAN) & 0x7F, 0x7F);
}

// Half a step: of the 3-bit mantissa, or of the subnormals. The quotients' rounding is below both.
TEST(QuantizeFp8, IsWithinHalfAStepOfEveryWeight) {
  SplitMix64 random(1);
  for (const auto& [rows, columns] :
       {std::pair<int64_t, int64_t>{1, 1}, {3, 200}, {130, 257}, {256, 128}})
    for (const bool block : {false, true}) {
      std::vector<float> w(static_cast<size_t>(rows * columns));
      for (float& x : w) x = random.Normal() * std::exp(4 * random.Normal());
      for (int c = 0; c < columns && rows > 1; ++c) w[static_cast<size_t>(columns + c)] = 0;
      const View<const float, 2> view(w.data(), {rows, columns});
      const Fp8Quantized q = block ? QuantizeFp8Block(view) : QuantizeFp8Channel(view);
      EXPECT_EQ(q.Scales().dim(0), block ? (rows + 127) / 128 : rows);
      EXPECT_EQ(q.Scales().dim(1), block ? (columns + 127) / 128 : 1);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < columns; ++c) {
          const double scale = q.Scales()(r / q.scale_rows, c / q.scale_columns);
          const double back = E4M3ToFloat(q.Codes()(r, c)) * scale;
          const double half_step = std::max(std::fabs(double{view(r, c)}) / 16, scale / 1024);
          EXPECT_LE(std::fabs(back - view(r, c)), half_step * (1 + 1e-6));
        }
    }
}

// All codes, NaNs too, in two pieces that do not begin at a panel.
TEST(PackedMatrix, ReadsBackEveryCodeAndScaleOfRaggedShapes) {
  SplitMix64 random(2);
  for (const auto& [outputs, inputs] :
       {std::pair{1, 1}, {8, 16}, {33, 31}, {70, 65}, {5, 128}, {100, 600}, {300, 130}})
    for (const int64_t cut : {outputs / 2, outputs / 8 * 8, 0})
      for (const int64_t scale_inputs : {0, 32, 128, 256}) {
        auto packed =
            PackedMatrix::Allocate({WeightFormat::kFp8E4M3, scale_inputs}, outputs, inputs);
        ASSERT_TRUE(packed.ok());
        std::vector<uint8_t> codes(static_cast<size_t>(outputs * inputs));
        for (uint8_t& c : codes) c = static_cast<uint8_t>(random.Next());
        const int64_t blocks = packed->scale_blocks();
        EXPECT_EQ(blocks, scale_inputs ? (inputs + scale_inputs - 1) / scale_inputs : 1);
        const int64_t per_scale = scale_inputs ? 128 : 1;
        // Scale rows of the second piece count from its own first output.
        const auto rows_of = [&](int64_t n) { return (n + per_scale - 1) / per_scale; };
        const int64_t first_rows = rows_of(cut);
        std::vector<float> scales(
            static_cast<size_t>((first_rows + rows_of(outputs - cut)) * blocks));
        for (float& s : scales) s = random.Normal();
        const View<const uint8_t, 2> all(codes.data(), {outputs, inputs});
        const View<const float, 2> scale(scales.data(),
                                         {first_rows + rows_of(outputs - cut), blocks});
        packed->PackCodes(0, all.Rows(0, cut));
        packed->PackCodes(cut, all.Rows(cut, outputs - cut));
        packed->SetScales(0, cut, scale.Rows(0, first_rows), per_scale);
        packed->SetScales(cut, outputs - cut, scale.Rows(first_rows, rows_of(outputs - cut)),
                          per_scale);
        for (int64_t o = 0; o < packed->panels() * kPanelOutputs; ++o)
          for (int64_t i = 0; i < packed->padded_inputs(); ++i) {
            const uint8_t found = packed->panel<uint8_t>(o / 32)[i / 2 * 64 + o % 32 * 2 + i % 2];
            if (o >= outputs || i >= inputs) {
              ASSERT_EQ(found, 0);
              continue;
            }
            ASSERT_EQ(found, all(o, i)) << outputs << "x" << inputs << " at " << o << "," << i;
            const int64_t row = o < cut ? o / per_scale : first_rows + (o - cut) / per_scale;
            const float expected = scale(row, scale_inputs ? i / scale_inputs : 0);
            ASSERT_EQ(packed->Scale(o, i), expected);
            const float at = packed->At(o, i), value = E4M3ToFloat(found) * expected;
            ASSERT_TRUE(at == value || (std::isnan(at) && std::isnan(value)));
          }
      }
}

TEST(PackedFp8, PacksFloatsAndBfloat16sAsTheQuantiserDoes) {
  SplitMix64 random(4);
  for (const auto& [outputs, inputs] : {std::pair{1, 1}, {33, 31}, {70, 65}, {16, 1100}}) {
    std::vector<float> w(static_cast<size_t>(outputs * inputs));
    for (float& x : w) x = RoundToBf16(random.Normal() * std::exp(4 * random.Normal()));
    if (outputs > 1) std::fill_n(w.begin() + inputs, inputs, 0.0f);
    std::vector<Bf16> narrow;
    narrow.reserve(w.size());
    for (const float x : w) narrow.push_back(ToBf16(x));
    const View<const float, 2> view(w.data(), {outputs, inputs});
    const Fp8Quantized q = QuantizeFp8Channel(view);
    auto a = PackedMatrix::Allocate({WeightFormat::kFp8E4M3}, outputs, inputs);
    auto b = PackedMatrix::Allocate({WeightFormat::kFp8E4M3}, outputs, inputs);
    ASSERT_TRUE(a.ok() && b.ok());
    a->Pack(0, view);
    b->Pack(0, View<const Bf16, 2>(narrow.data(), {outputs, inputs}));
    for (int64_t o = 0; o < outputs; ++o)
      for (int64_t i = 0; i < inputs; ++i)
        for (const PackedMatrix* packed : {&*a, &*b}) {
          ASSERT_EQ(packed->panel<uint8_t>(o / 32)[i / 2 * 64 + o % 32 * 2 + i % 2],
                    q.Codes()(o, i))
              << outputs << "x" << inputs << " at " << o << "," << i << ": " << view(o, i);
          ASSERT_EQ(packed->Scale(o, i), q.Scales()(o, 0));
        }
  }
}

TEST(PackedMatrix, TakesHalfTheBytesInFp8) {
  const WeightLayout channel{WeightFormat::kFp8E4M3, 0}, block{WeightFormat::kFp8E4M3, 128};
  const uint64_t bf16 = PackedMatrix::Bytes(4096, 1024);
  EXPECT_EQ(PackedMatrix::Bytes(channel, 4096, 1024), bf16 / 2 + 4096 * 4);
  EXPECT_EQ(PackedMatrix::Bytes(block, 4096, 1024), bf16 / 2 + 4096 * 8 * 4);
}

}  // namespace
}  // namespace sluice
