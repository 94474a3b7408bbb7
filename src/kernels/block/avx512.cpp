#include <immintrin.h>

#include "kernels/block/block_ops.h"

namespace sluice {
namespace {

using Vec = __m512;
constexpr int kLanes = 16;
constexpr int kProductVectors = 4;  // 6 x 4 sums, 4 of B and a broadcast: 29 of 32 registers
constexpr int kDotsRows = 4;        // 4 x 4 sums
constexpr int kPanelRows = 8;       // 8 x 2 sums
constexpr int kPanelSums = 8;

// The first n lanes; all or none for n beyond either end.
__mmask16 First(int64_t n) {
  return n >= kLanes ? 0xffff : n <= 0 ? 0 : static_cast<__mmask16>((1u << n) - 1);
}

Vec Zero() { return _mm512_setzero_ps(); }
Vec Set(float x) { return _mm512_set1_ps(x); }
Vec Broadcast(const float* x) { return _mm512_set1_ps(*x); }
Vec Load(const float* x) { return _mm512_loadu_ps(x); }
Vec LoadPart(const float* x, int64_t n) { return _mm512_maskz_loadu_ps(First(n), x); }
void Store(float* to, Vec x) { _mm512_storeu_ps(to, x); }
void StorePart(float* to, Vec x, int64_t n) { _mm512_mask_storeu_ps(to, First(n), x); }
void Prefetch(const float* x) { _mm_prefetch(reinterpret_cast<const char*>(x), _MM_HINT_T0); }

Vec Widened(__m256i x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}
Vec LoadBf16(const uint16_t* x) {
  return Widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}
Vec LoadBf16Part(const uint16_t* x, int64_t n) {
  return Widened(_mm256_maskz_loadu_epi16(First(n), x));
}
// 16 outputs' weights for an even and the next odd input.
void LoadPairs(const uint16_t* w, Vec* even, Vec* odd) {
  const __m512i pairs = _mm512_loadu_si512(w);
  *even = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
  *odd = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-0x10000)));
}

Vec Fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
Vec Add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
Vec Sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
Vec Mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
Vec Div(Vec a, Vec b) { return _mm512_div_ps(a, b); }

Vec RoundNearest(Vec x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
Vec TimesPowerOfTwo(Vec x, Vec n) { return _mm512_scalef_ps(x, n); }
Vec ZeroWhereLess(Vec x, Vec compared, float bound) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(compared, _mm512_set1_ps(bound), _CMP_NLT_UQ), x);
}
// The larger in the first n lanes, `a` in the others.
Vec MaxPart(Vec a, Vec b, int64_t n) { return _mm512_mask_max_ps(a, First(n), a, b); }
Vec KeepPart(Vec x, int64_t n) { return _mm512_maskz_mov_ps(First(n), x); }
float MaxLanes(Vec x) { return _mm512_reduce_max_ps(x); }

__m128 SumQuarters(Vec x) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}
// The sums of the lanes of four vectors, each by the same tree.
void SumLanes(Vec a, Vec b, Vec c, Vec d, float* sums) {
  __m128 w = SumQuarters(a), x = SumQuarters(b), y = SumQuarters(c), z = SumQuarters(d);
  _MM_TRANSPOSE4_PS(w, x, y, z);
  _mm_storeu_ps(sums, _mm_add_ps(_mm_add_ps(w, y), _mm_add_ps(x, z)));
}

// To the nearest bfloat16, ties to even; NaN stays NaN.
Vec RoundBf16(Vec x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  rounded = _mm512_and_si512(rounded, _mm512_set1_epi32(-0x10000));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_mask_mov_ps(_mm512_castsi512_ps(rounded), nan, x);
}

#include "kernels/block/block_kernels.inc"

}  // namespace

const BlockOps kBlockOpsAvx512 = {Product, Dots, Panel, SoftmaxPage, Divide, Widen, Transpose};

}  // namespace sluice
