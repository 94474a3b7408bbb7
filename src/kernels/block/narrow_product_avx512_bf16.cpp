#include <immintrin.h>

#include <cstring>

#include "kernels/block/block_ops.h"

namespace sluice {
namespace {

#include "kernels/simd/avx512.inc"

constexpr int kRows = 6, kVectors = 4;  // 24 chains: two units of latency 6 need 12

// Columns [j, j + 16 kColumns) of rows [i, i + kCount). Of the groups of rows, each fetches every
// `groups`-th pair's lines, beginning with pair `turn`.
template <int kCount, int kColumns>
void Tile(const BlockNarrowProduct& p, int64_t i, int64_t j, int64_t groups, int64_t turn) {
  V::Reg sum[kCount][kColumns];
#pragma GCC unroll 6
  for (auto& row : sum)
#pragma GCC unroll 4
    for (V::Reg& x : row) x = V::Zero();
  const int64_t a_row = p.a_row, b_bytes = p.b_depth * 2, pairs = p.depth / 2;
  const uint16_t* a = static_cast<const uint16_t*>(p.a) + i * a_row;
  const char* b = static_cast<const char*>(p.b) + j * 4;
  const char* fetch = p.fetch ? static_cast<const char*>(p.fetch) + j * 4 : nullptr;
  for (int64_t d = 0; d < pairs; ++d, a += 2, b += b_bytes) {
    if (fetch && turn-- == 0) {
      turn = groups - 1;
#pragma GCC unroll 4
      for (int v = 0; v < kColumns; ++v) _mm_prefetch(fetch + d * b_bytes + v * 64, _MM_HINT_T0);
    }
    __m512bh w[kColumns];
#pragma GCC unroll 4
    for (int v = 0; v < kColumns; ++v)
      w[v] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + v * 64));
#pragma GCC unroll 6
    for (int r = 0; r < kCount; ++r) {
      int32_t pair;
      std::memcpy(&pair, a + r * a_row, sizeof pair);
      const auto x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
#pragma GCC unroll 4
      for (int v = 0; v < kColumns; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], w[v], x);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < kCount; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kColumns; ++v)
      V::Store(p.c + (i + r) * p.c_row + j + v * V::kLanes, sum[r][v]);
}

template <int kColumns>
void Columns(const BlockNarrowProduct& p, int64_t j) {
  const int64_t groups = (p.rows + kRows - 1) / kRows;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t i = p.rows * g / groups;
    switch (p.rows * (g + 1) / groups - i) {
      case 1: Tile<1, kColumns>(p, i, j, groups, g); break;
      case 2: Tile<2, kColumns>(p, i, j, groups, g); break;
      case 3: Tile<3, kColumns>(p, i, j, groups, g); break;
      case 4: Tile<4, kColumns>(p, i, j, groups, g); break;
      case 5: Tile<5, kColumns>(p, i, j, groups, g); break;
      case 6: Tile<6, kColumns>(p, i, j, groups, g); break;
    }
  }
}

}  // namespace

void NarrowProductAvx512Bf16(const BlockNarrowProduct& p) {
  for (int64_t j = 0; j < p.columns; j += kVectors * V::kLanes) {
    switch ((p.columns - j + V::kLanes - 1) / V::kLanes) {
      case 1: Columns<1>(p, j); break;
      case 2: Columns<2>(p, j); break;
      case 3: Columns<3>(p, j); break;
      default: Columns<kVectors>(p, j); break;
    }
  }
}

}  // namespace sluice
