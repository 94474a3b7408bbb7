#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tensor/arena.h"
#include "tensor/dtype.h"
#include "tensor/exec.h"
#include "tensor/view.h"

namespace sluice {
namespace {

TEST(Bf16, RoundsToNearestEvenAndKeepsSpecialValues) {
  EXPECT_EQ(ToBf16(1.0f).bits, 0x3F80);
  EXPECT_EQ(ToBf16(1.0f + 0x1.0p-8f).bits, 0x3F80);  // tie goes to even
  EXPECT_EQ(ToBf16(1.0f + 0x1.8p-7f).bits, 0x3F82);  // tie goes to even, upwards
  EXPECT_EQ(ToBf16(1.0f + 0x1.01p-8f).bits, 0x3F81);
  EXPECT_TRUE(std::isinf(RoundToBf16(std::numeric_limits<float>::max())));
  EXPECT_TRUE(std::isnan(RoundToBf16(std::numeric_limits<float>::quiet_NaN())));
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const Bf16 value{static_cast<uint16_t>(bits)};
    if (!std::isnan(ToFloat(value))) {
      EXPECT_EQ(ToBf16(ToFloat(value)).bits, bits);
    }
  }
}

TEST(View, SlicesRowsAndColumnsAndSplits) {
  std::vector<int> data(24);
  for (int i = 0; i < 24; ++i) data[i] = i;
  View<int, 2> matrix(data.data(), {4, 6});
  EXPECT_EQ(matrix(2, 3), 15);
  EXPECT_EQ(matrix.Rows(1, 2)(0, 0), 6);
  EXPECT_EQ(matrix.Columns(2, 3)(1, 0), 8);
  EXPECT_EQ(matrix.Split(3)(1, 1, 2), 11);
  View<const int, 2> constant = matrix;
  EXPECT_EQ(constant(3, 5), 23);
}

TEST(Arena, GivesAlignedMemoryBackInStackOrder) {
  Arena arena(std::move(*Buffer::Allocate(1 << 16, "test")));
  const uint64_t before = arena.used();
  {
    Arena::Scope scope(arena);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(arena.Allocate<char>(3)) % 64, 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(arena.Allocate<float>(5)) % 64, 0u);
    EXPECT_EQ(arena.used(), before + 128);
  }
  EXPECT_EQ(arena.used(), before);
  EXPECT_EQ(arena.used_max(), 128u);
  EXPECT_DEATH(arena.Allocate<char>(1 << 20), "CHECK failed");
}

TEST(Buffer, RefusesWhatCannotBeHad) {
  EXPECT_EQ(Buffer::Allocate(1ull << 60, "a giant").status().code(), Code::kOutOfMemory);
  auto huge = Buffer::Allocate(5 << 20, "huge");
  ASSERT_TRUE(huge.ok());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(huge->data()) % (2 << 20), 0u);
  EXPECT_EQ(huge->data()[(5 << 20) - 1], std::byte{0});
}

}  // namespace
}  // namespace sluice
