#include <immintrin.h>

#include "kernels/block/block_ops.h"

namespace sluice {
namespace {

using Vec = __m256;
constexpr int kLanes = 8;
constexpr int kProductVectors = 2;  // 6 x 2 sums, 2 of B and a broadcast: 15 of 16 registers
constexpr int kDotsRows = 2;        // 2 x 4 sums
constexpr int kPanelRows = 4;       // 4 x 2 sums
constexpr int kPanelSums = 4;

// All bits set in the first n lanes; all or none for n beyond either end.
__m256i First(int64_t n) {
  const int limit = n >= kLanes ? kLanes : n <= 0 ? 0 : static_cast<int>(n);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(limit), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

Vec Zero() { return _mm256_setzero_ps(); }
Vec Set(float x) { return _mm256_set1_ps(x); }
Vec Broadcast(const float* x) { return _mm256_broadcast_ss(x); }
Vec Load(const float* x) { return _mm256_loadu_ps(x); }
Vec LoadPart(const float* x, int64_t n) { return _mm256_maskload_ps(x, First(n)); }
void Store(float* to, Vec x) { _mm256_storeu_ps(to, x); }
void StorePart(float* to, Vec x, int64_t n) { _mm256_maskstore_ps(to, First(n), x); }
void Prefetch(const float* x) { _mm_prefetch(reinterpret_cast<const char*>(x), _MM_HINT_T0); }

Vec LoadBf16(const uint16_t* x) {
  const __m128i narrow = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16));
}
Vec LoadBf16Part(const uint16_t* x, int64_t n) {  // no masked load of halves: through a copy
  uint16_t copy[kLanes] = {};
  for (int64_t i = 0; i < n && i < kLanes; ++i) copy[i] = x[i];
  return LoadBf16(copy);
}
// 8 outputs' weights for an even and the next odd input.
void LoadPairs(const uint16_t* w, Vec* even, Vec* odd) {
  const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
  *even = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
  *odd = _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(-0x10000)));
}

Vec Fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
Vec Add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
Vec Sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
Vec Mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
Vec Div(Vec a, Vec b) { return _mm256_div_ps(a, b); }

Vec RoundNearest(Vec x) {
  return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
Vec TimesPowerOfTwo(Vec x, Vec n) {  // n >= -126 wherever the result is used
  const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  return _mm256_mul_ps(
      x, _mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_set1_epi32(127 << 23))));
}
Vec ZeroWhereLess(Vec x, Vec compared, float bound) {
  return _mm256_and_ps(x, _mm256_cmp_ps(compared, _mm256_set1_ps(bound), _CMP_NLT_UQ));
}
// The larger in the first n lanes, `a` in the others.
Vec MaxPart(Vec a, Vec b, int64_t n) {
  return _mm256_blendv_ps(a, _mm256_max_ps(a, b), _mm256_castsi256_ps(First(n)));
}
Vec KeepPart(Vec x, int64_t n) { return _mm256_and_ps(x, _mm256_castsi256_ps(First(n))); }
float MaxLanes(Vec x) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
}

__m128 SumQuarters(Vec x) {
  return _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
}
// The sums of the lanes of four vectors, each by the same tree.
void SumLanes(Vec a, Vec b, Vec c, Vec d, float* sums) {
  __m128 w = SumQuarters(a), x = SumQuarters(b), y = SumQuarters(c), z = SumQuarters(d);
  _MM_TRANSPOSE4_PS(w, x, y, z);
  _mm_storeu_ps(sums, _mm_add_ps(_mm_add_ps(w, y), _mm_add_ps(x, z)));
}

// To the nearest bfloat16, ties to even; NaN stays NaN.
Vec RoundBf16(Vec x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  rounded = _mm256_and_si256(rounded, _mm256_set1_epi32(-0x10000));
  return _mm256_blendv_ps(_mm256_castsi256_ps(rounded), x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

#include "kernels/block/block_kernels.inc"

}  // namespace

const BlockOps kBlockOpsAvx2 = {Product, Dots, Panel, SoftmaxPage, Divide, Widen, Transpose};

}  // namespace sluice
