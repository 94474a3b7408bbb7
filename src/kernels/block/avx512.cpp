#include <immintrin.h>

#include "kernels/block/block_ops.h"

namespace sluice {
namespace {

#include "kernels/simd/avx512.inc"

constexpr int kProductVectors = 4;  // 6 x 4 sums, 4 of B and a broadcast: 29 of 32 registers
constexpr int kDotsRows = 4;        // 4 x 4 sums

// The first n lanes; all or none for n beyond either end.
__mmask16 First(int64_t n) { return n >= V::kLanes ? 0xffff : n <= 0 ? 0 : V::Mask(n); }

V::Reg LoadPart(const float* x, int64_t n) { return _mm512_maskz_loadu_ps(First(n), x); }
void StorePart(float* to, V::Reg x, int64_t n) { _mm512_mask_storeu_ps(to, First(n), x); }

// The upper halves of the first n lanes.
void StoreBf16Part(uint16_t* to, V::Reg x, int64_t n) {
  _mm512_mask_cvtepi32_storeu_epi16(to, First(n), _mm512_srli_epi32(_mm512_castps_si512(x), 16));
}

V::Reg Widened(__m256i x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}
V::Reg LoadBf16(const uint16_t* x) {
  return Widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}
V::Reg LoadBf16Part(const uint16_t* x, int64_t n) {
  return Widened(_mm256_maskz_loadu_epi16(First(n), x));
}

// Sixteen pairs of bfloat16s, held as floats: the first of each pair and the second, widened.
V::Reg FirstOfPairs(V::Reg pairs) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(pairs), 16));
}
V::Reg SecondOfPairs(V::Reg pairs) {
  return _mm512_castsi512_ps(
      _mm512_and_si512(_mm512_castps_si512(pairs), _mm512_set1_epi32(0xffff0000)));
}

V::Reg ZeroWhereLess(V::Reg x, V::Reg compared, float bound) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(compared, V::Set1(bound), _CMP_NLT_UQ), x);
}
// The larger in the first n lanes, `a` in the others.
V::Reg MaxPart(V::Reg a, V::Reg b, int64_t n) { return _mm512_mask_max_ps(a, First(n), a, b); }
V::Reg KeepPart(V::Reg x, int64_t n) { return _mm512_maskz_mov_ps(First(n), x); }
float MaxLanes(V::Reg x) { return _mm512_reduce_max_ps(x); }

__m128 SumQuarters(V::Reg x) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// The four quarters of each of four vectors added as SumQuarters does: its quarter n is vector n's.
V::Reg QuartersOfFour(V::Reg a, V::Reg b, V::Reg c, V::Reg d) {
  const V::Reg ab = V::Add(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
  const V::Reg cd = V::Add(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xEE));
  return V::Add(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD));
}

// The sums of the lanes of 16 vectors, each by the tree of SumLanes, in less than half as many
// instructions. Inlined as that one.
[[gnu::always_inline]] inline V::Reg SumTile(const V::Reg* x) {
  const V::Reg a = QuartersOfFour(x[0], x[4], x[8], x[12]);
  const V::Reg b = QuartersOfFour(x[1], x[5], x[9], x[13]);
  const V::Reg c = QuartersOfFour(x[2], x[6], x[10], x[14]);
  const V::Reg d = QuartersOfFour(x[3], x[7], x[11], x[15]);
  const V::Reg ab = V::Add(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const V::Reg cd = V::Add(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  return V::Add(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE));
}

// Four rows of four.
void StoreFours(float* to, int64_t row, V::Reg x) {
  _mm_storeu_ps(to, _mm512_castps512_ps128(x));
  _mm_storeu_ps(to + row, _mm512_extractf32x4_ps(x, 1));
  _mm_storeu_ps(to + 2 * row, _mm512_extractf32x4_ps(x, 2));
  _mm_storeu_ps(to + 3 * row, _mm512_extractf32x4_ps(x, 3));
}

#include "kernels/block/block_kernels.inc"

}  // namespace

const BlockOps kBlockOpsAvx512 = {Product, PairProduct, RowProducts, Dots,     SoftmaxPage,
                                  Divide,  Widen,       Narrow,      Transpose};

}  // namespace sluice
