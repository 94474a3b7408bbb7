#include <immintrin.h>

#include <bit>

#include "base/machine.h"
#include "formats/fp8/e4m3.h"
#include "formats/int4/quantize.h"
#include "formats/packing/kernels.h"

namespace sluice {
namespace {

constexpr int kLanes = 16;
typedef uint32_t U __attribute__((vector_size(64)));
typedef int32_t S __attribute__((vector_size(64)));
typedef uint16_t W __attribute__((vector_size(64)));
typedef int16_t X __attribute__((vector_size(64)));
typedef float F __attribute__((vector_size(64)));

__m512i Raw(U x) { return std::bit_cast<__m512i>(x); }
U FromRaw(__m512i x) { return std::bit_cast<U>(x); }

F Smaller(F a, F b) { return _mm512_min_ps(a, b); }
F Larger(F a, F b) { return _mm512_max_ps(a, b); }
F MultiplyAdd(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
F SubtractProduct(F c, F a, F b) { return _mm512_fnmadd_ps(a, b, c); }
U Nearest(F x) { return FromRaw(_mm512_cvtps_epi32(x)); }

U Merge(U mask, U a, U b) {
  return FromRaw(_mm512_ternarylogic_epi32(Raw(mask), Raw(a), Raw(b), 0xCA));
}
U OddBytes(U x) {
  return FromRaw(_mm512_shuffle_epi8(Raw(x), _mm512_set4_epi32(0x0F0D, 0x0B09, 0x0705, 0x0301)));
}
bool All(S condition) { return _mm512_movepi32_mask(std::bit_cast<__m512i>(condition)) == 0xFFFF; }

// A whole line: past the caches, which would read it from memory first.
void StoreLine(void* to, U x) { _mm512_stream_si512(static_cast<__m512i*>(to), Raw(x)); }
void StoreWords(void* to, U x) {
  _mm256_storeu_si256(static_cast<__m256i*>(to), _mm512_cvtepi32_epi16(Raw(x)));
}
void StoreBytes(void* to, U x) {
  _mm_storeu_si128(static_cast<__m128i*>(to), _mm512_cvtepi32_epi8(Raw(x)));
}

// The lower halves of the elements, those of `a` first.
U JoinWords(U a, U b) {
  const __m512i order =
      _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30, 28, 26,
                       24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  return FromRaw(_mm512_permutex2var_epi16(Raw(a), order, Raw(b)));
}

[[gnu::always_inline]] inline void Transpose(U (&r)[16]) {
  U t[16], u[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = FromRaw(_mm512_unpacklo_epi32(Raw(r[i]), Raw(r[i + 1])));
    t[i + 1] = FromRaw(_mm512_unpackhi_epi32(Raw(r[i]), Raw(r[i + 1])));
  }
  // u[i + k], i a multiple of 4: of rows i to i + 3, elements k, k + 4, k + 8 and k + 12, one a
  // 128-bit lane.
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      u[i + 2 * j] = FromRaw(_mm512_unpacklo_epi64(Raw(t[i + j]), Raw(t[i + j + 2])));
      u[i + 2 * j + 1] = FromRaw(_mm512_unpackhi_epi64(Raw(t[i + j]), Raw(t[i + j + 2])));
    }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512i a = _mm512_shuffle_i32x4(Raw(u[j]), Raw(u[j + 4]), 0x88);
    const __m512i b = _mm512_shuffle_i32x4(Raw(u[j]), Raw(u[j + 4]), 0xDD);
    const __m512i c = _mm512_shuffle_i32x4(Raw(u[j + 8]), Raw(u[j + 12]), 0x88);
    const __m512i d = _mm512_shuffle_i32x4(Raw(u[j + 8]), Raw(u[j + 12]), 0xDD);
    r[j] = FromRaw(_mm512_shuffle_i32x4(a, c, 0x88));
    r[j + 4] = FromRaw(_mm512_shuffle_i32x4(b, d, 0x88));
    r[j + 8] = FromRaw(_mm512_shuffle_i32x4(a, c, 0xDD));
    r[j + 12] = FromRaw(_mm512_shuffle_i32x4(b, d, 0xDD));
  }
}

#include "formats/packing/tiles.inc"

#include "formats/bf16/lines.inc"
#include "formats/fp8/lines.inc"
#include "formats/int4/lines.inc"
#include "formats/int8/lines.inc"
#include "formats/packing/table.inc"

}  // namespace

const PackKernels kPackAvx512 = KernelsOf("avx512", kAvx512);

}  // namespace sluice
