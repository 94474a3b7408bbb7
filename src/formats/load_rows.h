// Rows of floats or bfloat16s in registers, for the quantising packers.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "tensor/dtype.h"

namespace sluice {

inline float AsFloat(float x) { return x; }
inline float AsFloat(Bf16 x) { return ToFloat(x); }

/// Eight values as floats.
inline __m256 LoadFloats(const float* from) { return _mm256_loadu_ps(from); }
inline __m256 LoadFloats(const Bf16* from) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

/// The largest magnitude of a row; finite values order as their bits do.
template <class T>
float LargestMagnitude(const T* row, int64_t count) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
  __m256 largest[4] = {};  // several chains: the maximum has a latency
  int64_t i = 0;
  for (; i + 32 <= count; i += 32)
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j)
      largest[j] = _mm256_max_ps(largest[j], _mm256_and_ps(LoadFloats(row + i + 8 * j), magnitude));
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, _mm256_max_ps(_mm256_max_ps(largest[0], largest[1]),
                                       _mm256_max_ps(largest[2], largest[3])));
  float out = *std::max_element(lanes, lanes + 8);
  for (; i < count; ++i) out = std::max(out, std::fabs(AsFloat(row[i])));
  return out;
}

/// Sixteen 32-bit integers as bytes, in order, with signed and then `kSigned` or unsigned
/// saturation.
template <bool kSigned>
__m128i ToBytes(__m256i a, __m256i b) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8);
  const __m128i low = _mm256_castsi256_si128(words), high = _mm256_extracti128_si256(words, 1);
  return kSigned ? _mm_packs_epi16(low, high) : _mm_packus_epi16(low, high);
}

/// w / scale of eight values, rounded to the nearest integer, ties to even.
template <class T>
__m256i Quotients(const T* from, __m256 scale) {
  return _mm256_cvtps_epi32(_mm256_div_ps(LoadFloats(from), scale));
}

}  // namespace sluice
