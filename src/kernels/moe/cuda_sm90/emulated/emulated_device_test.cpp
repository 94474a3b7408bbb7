// The emulated device itself: its models against what the PTX ISA says, and mistakes of the kind
// that it is there to find.
#include <cuda.h>
#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

#include "base/random.h"
#include "kernels/moe/cuda_sm90/instructions.cuh"
#include "tensor/dtype.h"

namespace sluice::moe_sm90 {
namespace {

using emulated::LaunchEnd;
using testing::HasSubstr;

constexpr int kSeeds = 24;

LaunchEnd RunKernel(int ctas, int threads, const std::function<void()>& kernel) {
  return emulated::RunLaunch({.grid_x = static_cast<unsigned>(ctas), .threads = threads}, kernel);
}
/// Of one CTA; what it stops with.
std::string Trapped(int threads, const std::function<void()>& kernel) {
  EXPECT_EQ(RunKernel(1, threads, kernel), LaunchEnd::kTrapped);
  return emulated::LastTrap();
}

// A matrix of bf16 [rows, 64] and its map, boxes of `box_rows`.
struct Matrix {
  Matrix(uint64_t seed, int rows, int box_rows) : values(static_cast<size_t>(rows) * 64) {
    SplitMix64 random(seed);
    for (Bf16& value : values) value = ToBf16(random.Normal());
    const cuuint64_t dims[] = {64, static_cast<cuuint64_t>(rows)}, strides[] = {128};
    const cuuint32_t box[] = {64, static_cast<cuuint32_t>(box_rows)}, every[] = {1, 1};
    EXPECT_EQ(cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, values.data(), dims,
                                     strides, box, every, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                     CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                     CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
              CUDA_SUCCESS);
  }
  float At(int row, int column) const {
    return ToFloat(values[static_cast<size_t>(row * 64 + column)]);
  }
  alignas(64) std::vector<Bf16> values;
  CUtensorMap map;
};

struct Shared {
  uint8_t a[64 * 128], b[64 * 128];
  uint64_t full;
};

// a b^T of two boxes by one warpgroup, with a mistake or without.
enum class Mistake { kNone, kNoWaitForCopy, kNoWaitForProduct, kNoFence, kStageGivenBackEarly };

std::vector<float> ProductOf(const Matrix& a, const Matrix& b, Mistake mistake, LaunchEnd* end) {
  std::vector<float> out(64 * 64, -1);
  *end = RunKernel(1, 128, [&] {
    Shared& s = *DynamicShared<Shared>();
    if (threadIdx.x == 0) BarrierInit(&s.full, 1);
    __syncthreads();
    if (threadIdx.x == 0) {
      BarrierArriveExpecting(&s.full, sizeof s.a + sizeof s.b);
      CopyBox(s.a, &a.map, 0, 0, &s.full, CachePolicy::kEvictNormal);
      CopyBox(s.b, &b.map, 0, 0, &s.full, CachePolicy::kEvictNormal);
    }
    Fault fault;
    if (mistake != Mistake::kNoWaitForCopy) BarrierWait(&s.full, 0, &fault, Waiting::kFullStage);
    float sums[32] = {};
    if (mistake != Mistake::kNoFence) WgmmaFence();
    for (uint64_t i = 0; i < 4; ++i)
      Wgmma<Element::kBf16, 64>(sums, OperandDescriptor(SharedAddress(s.a)) + 2 * i,
                                OperandDescriptor(SharedAddress(s.b)) + 2 * i);
    WgmmaCommit();
    if (mistake == Mistake::kStageGivenBackEarly && threadIdx.x == 0) {
      BarrierArriveExpecting(&s.full, sizeof s.b);
      CopyBox(s.b, &b.map, 0, 64, &s.full, CachePolicy::kEvictNormal);
    }
    if (mistake != Mistake::kNoWaitForProduct) WgmmaWait<0>();
    for (int i = 0; i < 32; ++i) {
      const int t = static_cast<int>(threadIdx.x);
      const auto place = emulated::PlaceOf(t, i);
      out[static_cast<size_t>(place.row * 64 + place.column)] = sums[i];
    }
    WgmmaWait<0>();
    BarrierWait(&s.full, mistake == Mistake::kStageGivenBackEarly ? 1 : 0, &fault,
                Waiting::kFullStage);
  });
  return out;
}

bool IsProduct(const std::vector<float>& out, const Matrix& a, const Matrix& b) {
  for (int m = 0; m < 64; ++m)
    for (int n = 0; n < 64; ++n) {
      double sum = 0;
      for (int k = 0; k < 64; ++k) sum += double{a.At(m, k)} * b.At(n, k);
      const double off = std::abs(out[static_cast<size_t>(m * 64 + n)] - sum);
      if (!(off < 1e-4)) return false;
    }
  return true;
}

TEST(EmulatedProducts, MultiplyWhatTheCopyEngineBrought) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const Matrix a(seed, 64, 64), b(seed + 100, 128, 64);
    LaunchEnd end;
    const auto out = ProductOf(a, b, Mistake::kNone, &end);
    ASSERT_EQ(end, LaunchEnd::kDone) << emulated::LastTrap();
    ASSERT_TRUE(IsProduct(out, a, b)) << seed;
  }
}

TEST(EmulatedProducts, AreWrongWhereAWaitIsMissing) {
  const Matrix a(1, 64, 64), b(2, 128, 64);
  for (const Mistake mistake :
       {Mistake::kNoWaitForCopy, Mistake::kNoWaitForProduct, Mistake::kStageGivenBackEarly}) {
    int wrong = 0;
    for (int i = 0; i < kSeeds; ++i) {
      LaunchEnd end;
      const auto out = ProductOf(a, b, mistake, &end);  // or everybody waits
      wrong += end != LaunchEnd::kDone || !IsProduct(out, a, b);
    }
    EXPECT_GE(wrong, kSeeds / 3) << static_cast<int>(mistake);
  }
  LaunchEnd end;
  ProductOf(a, b, Mistake::kNoFence, &end);
  EXPECT_EQ(end, LaunchEnd::kTrapped);
  EXPECT_THAT(emulated::LastTrap(), HasSubstr("without a fence"));
}

// Cells of the ISA's figure of accumulator D.
TEST(EmulatedProducts, SumsLieWhereTheIsaHasThem) {
  const struct {
    int thread, reg, row, column;
  } cells[] = {
      {0, 0, 0, 0},   {0, 1, 0, 1},   {0, 2, 8, 0},    {0, 3, 8, 1},        {1, 0, 0, 2},
      {3, 1, 0, 7},   {4, 0, 1, 0},   {31, 0, 7, 6},   {31, 3, 15, 7},      {0, 4, 0, 8},
      {32, 0, 16, 0}, {96, 2, 56, 0}, {127, 3, 63, 7}, {127, 127, 63, 255},
  };
  for (const auto& cell : cells) {
    const auto place = emulated::PlaceOf(cell.thread, cell.reg);
    EXPECT_EQ(place.row, cell.row) << cell.thread << " " << cell.reg;
    EXPECT_EQ(place.column, cell.column) << cell.thread << " " << cell.reg;
  }
  std::set<std::pair<int, int>> all;
  for (int t = 0; t < 128; ++t)
    for (int i = 0; i < 128; ++i)
      all.insert({emulated::PlaceOf(t, i).row, emulated::PlaceOf(t, i).column});
  EXPECT_EQ(all.size(), 64u * 256u);
}

// Two statements of the ISA about one layout: the table of 16-byte cells for tensor copies, and
// Swizzle<3, 4, 3> on addresses for matrix operands.
TEST(EmulatedProducts, OperandsAreSwizzledAsCopiesAre) {
  for (uint32_t begin : {1024u, 4096u, 99u * 1024})
    for (int row = 0; row < 64; ++row)
      for (int chunk = 0; chunk < 8; ++chunk) {
        // The chunk's 32 bytes of K, then which half.
        const uint64_t descriptor = OperandDescriptor(begin) + 2 * static_cast<uint64_t>(chunk / 2);
        EXPECT_EQ(emulated::OperandAddress(descriptor, row, chunk % 2 * 16),
                  emulated::SwizzledChunk(begin + static_cast<uint32_t>(row) * 128, chunk));
      }
  EXPECT_EQ(emulated::SwizzledChunk(1024 + 3 * 128, 5), 1024u + 3 * 128 + 6 * 16);
}

TEST(EmulatedCopies, BringZerosFromOutsideTheMatrix) {
  const Matrix matrix(3, 5, 16);
  std::vector<Bf16> out(16 * 64);
  ASSERT_EQ(RunKernel(1, 32,
                      [&] {
                        Shared& s = *DynamicShared<Shared>();
                        Fault fault;
                        if (threadIdx.x == 0) {
                          BarrierInit(&s.full, 1);
                          BarrierArriveExpecting(&s.full, 16 * 128);
                          CopyBox(s.a, &matrix.map, 32, -2, &s.full, CachePolicy::kEvictNormal);
                          BarrierWait(&s.full, 0, &fault, Waiting::kFullStage);
                          for (int row = 0; row < 16; ++row)
                            for (int chunk = 0; chunk < 8; ++chunk) {
                              const uint32_t line =
                                  SharedAddress(s.a) + static_cast<uint32_t>(row) * 128;
                              const uint32_t at = emulated::SwizzledChunk(line, chunk);
                              std::memcpy(&out[static_cast<size_t>(row * 64 + chunk * 8)],
                                          emulated::SharedMemory(at, 16), 16);
                            }
                        }
                      }),
            LaunchEnd::kDone)
      << emulated::LastTrap();
  for (int row = 0; row < 16; ++row)
    for (int column = 0; column < 64; ++column) {
      const bool inside = row >= 2 && row < 7 && column < 32;
      EXPECT_EQ(ToFloat(out[static_cast<size_t>(row * 64 + column)]),
                inside ? matrix.At(row - 2, column + 32) : 0)
          << row << " " << column;
    }
}

TEST(EmulatedBarriers, StopWhoBreaksTheirRules) {
  const auto barrier = [] { return &DynamicShared<Shared>()->full; };
  EXPECT_THAT(Trapped(1, [&] { BarrierArrive(barrier()); }), HasSubstr("not initialised"));
  EXPECT_THAT(Trapped(1,
                      [&] {
                        BarrierInit(barrier(), 1);
                        BarrierArrive(barrier());
                        BarrierArrive(barrier());
                      }),
              HasSubstr("before a wait has seen"));
  EXPECT_THAT(Trapped(1,
                      [&] {
                        BarrierInit(barrier(), 1);
                        BarrierArriveExpecting(barrier(), 16);
                        BarrierArrive(barrier());
                      }),
              HasSubstr("more arrivals"));
}

TEST(EmulatedDevice, SaysWhoWaitsForWhatWhenNobodyCanGoOn) {
  int counter = 3;
  const LaunchEnd end = RunKernel(2, 64, [&] {
    Shared& s = *DynamicShared<Shared>();
    Fault fault;
    if (blockIdx.x == 0 && threadIdx.x == 0)
      WaitAtLeast(&counter, 4, &fault, Waiting::kArrived, 17);
    if (threadIdx.x == 0) BarrierInit(&s.full, 2);
    __syncthreads();
    if (blockIdx.x == 1 && threadIdx.x >= 32) BarrierWait(&s.full, 0, &fault, Waiting::kFullStage);
  });
  EXPECT_EQ(end, LaunchEnd::kDeadlock);
  EXPECT_THAT(emulated::LastTrap(), HasSubstr("CTA 0 warp 0: arrived rows [17], needs 4, found 3"));
  EXPECT_THAT(emulated::LastTrap(), HasSubstr("CTA 0 warp 1: a barrier of the CTA"));
  EXPECT_THAT(emulated::LastTrap(), HasSubstr("CTA 1 warp 1: a full stage"));
}

// Threads of a warp do not run in step, and CTAs in no order.
TEST(EmulatedDevice, FindsMissingBarriers) {
  int wrong = 0, right = 0;
  for (int seed = 0; seed < kSeeds; ++seed) {
    int of_warp = 0, of_cta = 0;
    for (const bool barrier : {false, true}) {
      const LaunchEnd end = RunKernel(1, 64, [&] {
        int* const words = DynamicShared<int>();
        words[threadIdx.x] = static_cast<int>(threadIdx.x);
        if (barrier) __syncthreads();
        if (threadIdx.x == 5) of_warp = words[6];
        if (threadIdx.x == 6) of_cta = words[40];
      });
      ASSERT_EQ(end, LaunchEnd::kDone);
      (barrier ? right : wrong) += (of_warp == 6) == barrier && (of_cta == 40) == barrier;
      of_warp = of_cta = -1;
    }
  }
  EXPECT_EQ(right, kSeeds);
  EXPECT_GE(wrong, 1);
}

std::vector<unsigned> OrderOf(uint64_t seed) {
  std::vector<unsigned> order;
  emulated::SeedLaunches(seed);
  EXPECT_EQ(RunKernel(4, 32,
                      [&] {
                        emulated::Yield();
                        order.push_back(blockIdx.x * 32 + threadIdx.x);
                      }),
            LaunchEnd::kDone);
  return order;
}
TEST(EmulatedDevice, HasAnOrderThatItsSeedDecides) {
  EXPECT_EQ(OrderOf(7), OrderOf(7));
  EXPECT_NE(OrderOf(7), OrderOf(8));
}

TEST(EmulatedDevice, RunsWarpOperationsAmongTheLanesThatAreNamed) {
  unsigned ballots[32] = {}, matches[32] = {};
  int shifted[32] = {};
  ASSERT_EQ(RunKernel(1, 32,
                      [&] {
                        const unsigned t = threadIdx.x;
                        ballots[t] = __ballot_sync(0xFFFFFFFF, t % 3 == 0);
                        if (t < 20) {
                          __syncwarp(0xFFFFF);
                          matches[t] = __match_any_sync(0xFFFFF, t / 5);
                        }
                        shifted[t] = __shfl_up_sync(0xFFFFFFFF, static_cast<int>(t), 2);
                      }),
            LaunchEnd::kDone)
      << emulated::LastTrap();
  for (unsigned t = 0; t < 32; ++t) {
    EXPECT_EQ(ballots[t], 0x49249249u);
    EXPECT_EQ(matches[t], t < 20 ? 0x1Fu << t / 5 * 5 : 0);
    EXPECT_EQ(shifted[t], static_cast<int>(t < 2 ? t : t - 2));
  }
}

}  // namespace
}  // namespace sluice::moe_sm90
