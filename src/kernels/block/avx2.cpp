#include <immintrin.h>

#include "kernels/block/block_ops.h"

namespace sluice {
namespace {

#include "kernels/simd/avx2.inc"

constexpr int kProductVectors = 2;  // 6 x 2 sums, 2 of B and a broadcast: 15 of 16 registers
constexpr int kDotsRows = 2;        // 2 x 4 sums

// All bits set in the first n lanes; all or none for n beyond either end.
__m256i First(int64_t n) {
  const int limit = n >= V::kLanes ? V::kLanes : n <= 0 ? 0 : static_cast<int>(n);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(limit), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

V::Reg LoadPart(const float* x, int64_t n) { return _mm256_maskload_ps(x, First(n)); }
void StorePart(float* to, V::Reg x, int64_t n) { _mm256_maskstore_ps(to, First(n), x); }

// The upper halves of the first n lanes.
void StoreBf16Part(uint16_t* to, V::Reg x, int64_t n) {
  const __m256i bits = _mm256_srli_epi32(_mm256_castps_si256(x), 16);
  const __m128i halves =
      _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
  if (n >= V::kLanes) return _mm_storeu_si128(reinterpret_cast<__m128i*>(to), halves);
  alignas(16) uint16_t copy[V::kLanes];
  _mm_store_si128(reinterpret_cast<__m128i*>(copy), halves);
  for (int64_t i = 0; i < n; ++i) to[i] = copy[i];
}

V::Reg LoadBf16(const uint16_t* x) {
  const __m128i narrow = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16));
}
V::Reg LoadBf16Part(const uint16_t* x, int64_t n) {  // no masked load of halves: through a copy
  uint16_t copy[V::kLanes] = {};
  for (int64_t i = 0; i < n && i < V::kLanes; ++i) copy[i] = x[i];
  return LoadBf16(copy);
}

// Eight pairs of bfloat16s, held as floats: the first of each pair and the second, widened.
V::Reg FirstOfPairs(V::Reg pairs) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(pairs), 16));
}
V::Reg SecondOfPairs(V::Reg pairs) {
  return _mm256_and_ps(pairs, _mm256_castsi256_ps(_mm256_set1_epi32(0xffff0000)));
}

V::Reg ZeroWhereLess(V::Reg x, V::Reg compared, float bound) {
  return _mm256_and_ps(x, _mm256_cmp_ps(compared, V::Set1(bound), _CMP_NLT_UQ));
}
// The larger in the first n lanes, `a` in the others.
V::Reg MaxPart(V::Reg a, V::Reg b, int64_t n) {
  return _mm256_blendv_ps(a, _mm256_max_ps(a, b), _mm256_castsi256_ps(First(n)));
}
V::Reg KeepPart(V::Reg x, int64_t n) { return _mm256_and_ps(x, _mm256_castsi256_ps(First(n))); }
float MaxLanes(V::Reg x) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
}

__m128 SumQuarters(V::Reg x) {
  return _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
}

// Of two vectors; quarter n of the result is vector n's.
V::Reg QuartersOfTwo(V::Reg a, V::Reg b) {
  return V::Add(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

// The sums of the lanes of 8 vectors, each by the tree of SumLanes. Inlined as that one.
[[gnu::always_inline]] inline V::Reg SumTile(const V::Reg* x) {
  const V::Reg a = QuartersOfTwo(x[0], x[4]), b = QuartersOfTwo(x[1], x[5]);
  const V::Reg c = QuartersOfTwo(x[2], x[6]), d = QuartersOfTwo(x[3], x[7]);
  const V::Reg ab = V::Add(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
  const V::Reg cd = V::Add(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
  return V::Add(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xEE));
}

// Two rows of four.
void StoreFours(float* to, int64_t row, V::Reg x) {
  _mm_storeu_ps(to, _mm256_castps256_ps128(x));
  _mm_storeu_ps(to + row, _mm256_extractf128_ps(x, 1));
}

#include "kernels/block/block_kernels.inc"

}  // namespace

const BlockOps kBlockOpsAvx2 = {Product, PairProduct, RowProducts, Dots,     SoftmaxPage,
                                Divide,  Widen,       Narrow,      Transpose};

}  // namespace sluice
