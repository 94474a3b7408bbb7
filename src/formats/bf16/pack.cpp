#include "formats/bf16/pack.h"

#include <immintrin.h>

#include "formats/panel_pieces.h"

namespace sluice {
namespace {

// Eight pairs of bfloat16s.
__m256i LoadPairs(const Bf16* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

// ToBf16 of eight floats, in the lower halves of 32-bit lanes.
__m256i Round(const float* from) {
  const __m256 x = _mm256_loadu_ps(from);
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
}

__m256i LoadPairs(const float* from) {
  const __m256i packed = _mm256_packus_epi32(Round(from), Round(from + 8));
  return _mm256_permute4x64_epi64(packed, 0xD8);  // packing works within 128-bit halves
}

// Transposes 8 x 8 32-bit elements: register i becomes element i of every old register.
void Transpose(__m256i (&r)[8]) {
  __m256i t[8], u[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      u[i + 2 * j] = _mm256_unpacklo_epi64(t[i + j], t[i + j + 2]);
      u[i + 2 * j + 1] = _mm256_unpackhi_epi64(t[i + j], t[i + j + 2]);
    }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x20);
    r[i + 4] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x31);
  }
}

// Eight rows' inputs [begin, end), a multiple of kPackInputs of them; `to` is the first row's.
template <class T>
void PackBlock(View<const T, 2> rows, int64_t begin, int64_t end, Bf16* to) {
  for (int64_t i = begin; i < end; i += kPackInputs) {
    __m256i pairs[8];
#pragma GCC unroll 8
    for (int64_t r = 0; r < 8; ++r) {
      _mm_prefetch(reinterpret_cast<const char*>(rows.row(r) + i) + kPackPrefetchBytes,
                   _MM_HINT_T0);
      pairs[r] = LoadPairs(rows.row(r) + i);
    }
    Transpose(pairs);
#pragma GCC unroll 8
    for (int64_t p = 0; p < 8; ++p)
      _mm256_store_si256(reinterpret_cast<__m256i*>(to + (i + 2 * p) * kPanelOutputs), pairs[p]);
  }
}

Bf16 Rounded(Bf16 x) { return x; }
Bf16 Rounded(float x) { return ToBf16(x); }

template <class T>
void PackRow(const T* from, int64_t begin, int64_t end, Bf16* to) {
  for (int64_t i = begin; i < end; ++i) to[i / 2 * (2 * kPanelOutputs) + i % 2] = Rounded(from[i]);
}

template <class T>
void PackRows(Bf16* panels, int64_t panel_elements, int64_t output_begin, View<const T, 2> rows) {
  const auto element = [&](int64_t output) {
    return panels + PanelElement(panel_elements, output, 0);
  };
  ForEachPanelPiece(
      output_begin, rows.dim(0), rows.dim(1),
      [&](int64_t row, int64_t output, int64_t begin, int64_t end) {
        PackBlock(rows.Rows(row, kPackOutputs), begin, end, element(output));
      },
      [&](int64_t row, int64_t output, int64_t begin, int64_t end) {
        PackRow(rows.row(row), begin, end, element(output));
      });
}

}  // namespace

void PackBf16(Bf16* panels, int64_t panel_elements, int64_t output_begin,
              View<const Bf16, 2> rows) {
  PackRows(panels, panel_elements, output_begin, rows);
}

void PackBf16(Bf16* panels, int64_t panel_elements, int64_t output_begin,
              View<const float, 2> rows) {
  PackRows(panels, panel_elements, output_begin, rows);
}

}  // namespace sluice
