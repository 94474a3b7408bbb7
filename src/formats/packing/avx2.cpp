#include <immintrin.h>

#include <bit>

#include "base/machine.h"
#include "formats/fp8/e4m3.h"
#include "formats/int4/quantize.h"
#include "formats/packing/kernels.h"

namespace sluice {
namespace {

constexpr int kLanes = 8;
typedef uint32_t U __attribute__((vector_size(32)));
typedef int32_t S __attribute__((vector_size(32)));
typedef uint16_t W __attribute__((vector_size(32)));
typedef int16_t X __attribute__((vector_size(32)));
typedef float F __attribute__((vector_size(32)));

__m256i Raw(U x) { return std::bit_cast<__m256i>(x); }
U FromRaw(__m256i x) { return std::bit_cast<U>(x); }

F Smaller(F a, F b) { return _mm256_min_ps(a, b); }
F Larger(F a, F b) { return _mm256_max_ps(a, b); }
F MultiplyAdd(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
F SubtractProduct(F c, F a, F b) { return _mm256_fnmadd_ps(a, b, c); }
U Nearest(F x) { return FromRaw(_mm256_cvtps_epi32(x)); }

U Merge(U mask, U a, U b) { return (a & mask) | (b & ~mask); }
U OddBytes(U x) {
  return FromRaw(_mm256_shuffle_epi8(
      Raw(x), _mm256_setr_epi32(0x0301, 0x0705, 0x0B09, 0x0F0D, 0x0301, 0x0705, 0x0B09, 0x0F0D)));
}
bool All(S condition) { return _mm256_movemask_ps(std::bit_cast<__m256>(condition)) == 0xFF; }

// Half a line: through the caches, where it meets the other half.
void StoreLine(void* to, U x) { _mm256_store_si256(static_cast<__m256i*>(to), Raw(x)); }
// The lower halves of the elements, those of `a` first.
U JoinWords(U a, U b) {
  const __m256i words = _mm256_packus_epi32(Raw(a & 0xFFFFu), Raw(b & 0xFFFFu));
  return FromRaw(_mm256_permute4x64_epi64(words, 0xD8));
}
__m128i Words(U x) { return _mm256_castsi256_si128(Raw(JoinWords(x, x))); }
void StoreWords(void* to, U x) { _mm_storeu_si128(static_cast<__m128i*>(to), Words(x)); }
void StoreBytes(void* to, U x) { _mm_storeu_si64(to, _mm_packus_epi16(Words(x), __m128i())); }

[[gnu::always_inline]] inline void Transpose(U (&r)[8]) {
  U t[8], u[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = FromRaw(_mm256_unpacklo_epi32(Raw(r[i]), Raw(r[i + 1])));
    t[i + 1] = FromRaw(_mm256_unpackhi_epi32(Raw(r[i]), Raw(r[i + 1])));
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      u[i + 2 * j] = FromRaw(_mm256_unpacklo_epi64(Raw(t[i + j]), Raw(t[i + j + 2])));
      u[i + 2 * j + 1] = FromRaw(_mm256_unpackhi_epi64(Raw(t[i + j]), Raw(t[i + j + 2])));
    }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[i] = FromRaw(_mm256_permute2x128_si256(Raw(u[i]), Raw(u[i + 4]), 0x20));
    r[i + 4] = FromRaw(_mm256_permute2x128_si256(Raw(u[i]), Raw(u[i + 4]), 0x31));
  }
}

#include "formats/packing/tiles.inc"

#include "formats/bf16/lines.inc"
#include "formats/fp8/lines.inc"
#include "formats/int4/lines.inc"
#include "formats/int8/lines.inc"
#include "formats/packing/table.inc"

}  // namespace

const PackKernels kPackAvx2 = KernelsOf("avx2", kAvx2);

}  // namespace sluice
