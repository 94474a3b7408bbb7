#include <immintrin.h>

#include "kernels/block/block_ops.h"

namespace sluice {
namespace {

#include "kernels/simd/avx512.inc"

#include "kernels/block/sum_tile_avx512.inc"

constexpr int64_t kPairLanes = 2 * V::kLanes;
constexpr int64_t kColumns = 4;

// Sums [i, i + kRows) x [j, j + 4), or as many of these columns as there are.
template <int kRows>
void Tile(const BlockNarrowDots& p, int64_t i, int64_t j) {
  V::Reg sum[4 * kColumns];
#pragma GCC unroll 16
  for (V::Reg& x : sum) x = V::Zero();
  const uint16_t* const a = static_cast<const uint16_t*>(p.a) + i * p.a_row;
  const uint16_t* b[kColumns];
#pragma GCC unroll 4
  for (int64_t c = 0; c < kColumns; ++c)
    b[c] =
        static_cast<const uint16_t*>(p.b) + (j + c < p.columns ? j + c : p.columns - 1) * p.b_row;
  const int64_t depth = p.depth, a_row = p.a_row;
  const auto step = [&](auto load, int64_t d) {
    __m512i columns[kColumns];
#pragma GCC unroll 4
    for (int64_t c = 0; c < kColumns; ++c) columns[c] = load(b[c] + d);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __m512i row = load(a + r * a_row + d);
#pragma GCC unroll 4
      for (int64_t c = 0; c < kColumns; ++c)
        sum[r * kColumns + c] =
            _mm512_dpbf16_ps(sum[r * kColumns + c], reinterpret_cast<__m512bh>(row),
                             reinterpret_cast<__m512bh>(columns[c]));
    }
  };
  int64_t d = 0;
  for (; d + kPairLanes <= depth; d += kPairLanes)
    step([](const uint16_t* x) { return _mm512_loadu_si512(x); }, d);
  if (d < depth) {
    const __mmask32 tail = (uint32_t{1} << (depth - d)) - 1;
    step([=](const uint16_t* x) { return _mm512_maskz_loadu_epi16(tail, x); }, d);
  }
  const V::Reg sums = SumTile(sum);
  const int64_t live = p.columns - j;
  const auto mask = static_cast<__mmask8>(live >= kColumns ? 0xf : (1u << live) - 1);
  float* const to = p.c + i * p.c_row + j;
  const auto store = [&](int r, __m128 x) {
    if (r < kRows) _mm_mask_storeu_ps(to + r * p.c_row, mask, x);
  };
  store(0, _mm512_castps512_ps128(sums));
  store(1, _mm512_extractf32x4_ps(sums, 1));
  store(2, _mm512_extractf32x4_ps(sums, 2));
  store(3, _mm512_extractf32x4_ps(sums, 3));
}

template <int kRows>
void Rows(const BlockNarrowDots& p, int64_t i) {
  for (int64_t j = 0; j < p.columns; j += kColumns) Tile<kRows>(p, i, j);
}

}  // namespace

void NarrowDotsAvx512Bf16(const BlockNarrowDots& dots) {
  int64_t i = 0;
  for (; i + 4 <= dots.rows; i += 4) Rows<4>(dots, i);
  switch (dots.rows - i) {
    case 1: return Rows<1>(dots, i);
    case 2: return Rows<2>(dots, i);
    case 3: return Rows<3>(dots, i);
  }
}

}  // namespace sluice
