#include "formats/packed_matrix.h"

#include <gtest/gtest.h>

#include <bit>
#include <type_traits>
#include <vector>

#include "base/random.h"

namespace sluice {
namespace {

// Any bits: infinities, NaNs and denormals are weights too.
template <class T>
void ExpectReadsBack(int64_t outputs, int64_t inputs, int64_t cut, SplitMix64& random) {
  std::vector<T> rows(outputs * inputs);
  for (T& x : rows) {
    const auto bits = static_cast<uint32_t>(random.Next());
    if constexpr (std::is_same_v<T, Bf16>)
      x = {static_cast<uint16_t>(bits)};
    else
      x = std::bit_cast<float>(bits);
  }
  auto packed = PackedMatrix::Allocate(outputs, inputs);
  ASSERT_TRUE(packed.ok());
  const View<const T, 2> all(rows.data(), {outputs, inputs});
  packed->Pack(0, all.Rows(0, cut));
  packed->Pack(cut, all.Rows(cut, outputs - cut));
  for (int64_t p = 0; p < packed->panels(); ++p)
    for (int64_t i = 0; i < packed->padded_inputs(); ++i)
      for (int64_t o = 0; o < kPanelOutputs; ++o) {
        const int64_t output = p * kPanelOutputs + o;
        Bf16 expected = {0};
        if (output < outputs && i < inputs) {
          if constexpr (std::is_same_v<T, Bf16>)
            expected = all(output, i);
          else
            expected = ToBf16(all(output, i));
        }
        const Bf16 found = packed->panel<Bf16>(p)[i / 2 * (2 * kPanelOutputs) + o * 2 + i % 2];
        ASSERT_EQ(found.bits, expected.bits)
            << outputs << "x" << inputs << " at " << output << "," << i;
      }
}

TEST(PackedMatrix, ReadsBackEveryElementOfRaggedShapesAndPadsWithZeros) {
  SplitMix64 random(1);
  for (const auto& [outputs, inputs] :
       {std::pair{1, 1}, {8, 16}, {32, 32}, {33, 31}, {70, 65}, {5, 128}, {100, 600}})
    for (const int64_t cut : {outputs / 2, outputs / 8 * 8, 0}) {  // packed in two pieces
      ExpectReadsBack<Bf16>(outputs, inputs, cut, random);
      ExpectReadsBack<float>(outputs, inputs, cut, random);
    }
}

TEST(PackedMatrix, SharesABufferWithOtherMatrices) {
  auto buffer = Buffer::Allocate(2 * PackedMatrix::Bytes(3, 5), "test");
  const auto shared = std::make_shared<const Buffer>(std::move(*buffer));
  PackedMatrix a = PackedMatrix::Inside(shared, 0, {}, 3, 5);
  PackedMatrix b = PackedMatrix::Inside(shared, PackedMatrix::Bytes(3, 5), {}, 3, 5);
  const std::vector<float> ones(15, 1), twos(15, 2);
  a.Pack(0, View<const float, 2>(ones.data(), {3, 5}));
  b.Pack(0, View<const float, 2>(twos.data(), {3, 5}));
  EXPECT_EQ(a.At(2, 4), 1);
  EXPECT_EQ(b.At(2, 4), 2);
}

}  // namespace
}  // namespace sluice
