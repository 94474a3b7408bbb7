#include "formats/bf16/packed_bf16.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/random.h"

namespace sluice {
namespace {

TEST(PackedBf16, ReadsBackEveryElementOfRaggedShapesAndPadsWithZeros) {
  SplitMix64 random(1);
  for (const auto& [outputs, inputs] : {std::pair{1, 1}, {32, 32}, {33, 31}, {70, 65}, {5, 128}}) {
    std::vector<Bf16> rows(outputs * inputs);
    for (Bf16& x : rows) x = ToBf16(random.Normal());
    auto packed = PackedBf16::Allocate(outputs, inputs);
    ASSERT_TRUE(packed.ok());
    const int64_t cut = outputs / 2;  // packed in two pieces
    View<const Bf16, 2> all(rows.data(), {outputs, inputs});
    packed->Pack(0, all.Rows(0, cut));
    packed->Pack(cut, all.Rows(cut, outputs - cut));
    double sum = 0, expected = 0;
    for (int64_t o = 0; o < outputs; ++o)
      for (int64_t i = 0; i < inputs; ++i) {
        EXPECT_EQ(packed->At(o, i), ToFloat(all(o, i)));
        expected += ToFloat(all(o, i));
      }
    for (int64_t p = 0; p < packed->panels(); ++p)
      for (int64_t i = 0; i < packed->panel_elements(); ++i) sum += ToFloat(packed->panel(p)[i]);
    EXPECT_EQ(sum, expected);  // whatever is not an element is zero
  }
}

}  // namespace
}  // namespace sluice
