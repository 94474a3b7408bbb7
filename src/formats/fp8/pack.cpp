#include "formats/fp8/pack.h"

#include <immintrin.h>

#include "formats/panel_pieces.h"

namespace sluice {
namespace {

// Transposes 8 x 8 pairs of codes: register i becomes pair i of every old register.
void Transpose(__m128i (&r)[8]) {
  __m128i t[8], u[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm_unpacklo_epi16(r[i], r[i + 1]);
    t[i + 1] = _mm_unpackhi_epi16(r[i], r[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      u[i + 2 * j] = _mm_unpacklo_epi32(t[i + j], t[i + j + 2]);
      u[i + 2 * j + 1] = _mm_unpackhi_epi32(t[i + j], t[i + j + 2]);
    }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[2 * i] = _mm_unpacklo_epi64(u[i], u[i + 4]);
    r[2 * i + 1] = _mm_unpackhi_epi64(u[i], u[i + 4]);
  }
}

void PackBlock(View<const uint8_t, 2> rows, int64_t begin, int64_t end, uint8_t* to) {
  for (int64_t i = begin; i < end; i += kPackInputs) {
    __m128i pairs[8];
#pragma GCC unroll 8
    for (int64_t r = 0; r < 8; ++r) {
      const uint8_t* from = rows.row(r) + i;
      _mm_prefetch(reinterpret_cast<const char*>(from) + kPackPrefetchBytes, _MM_HINT_T0);
      pairs[r] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    }
    Transpose(pairs);
#pragma GCC unroll 8
    for (int64_t p = 0; p < 8; ++p)
      _mm_store_si128(reinterpret_cast<__m128i*>(to + (i + 2 * p) * kPanelOutputs), pairs[p]);
  }
}

}  // namespace

void PackFp8(uint8_t* panels, int64_t panel_elements, int64_t output_begin,
             View<const uint8_t, 2> rows) {
  const auto element = [&](int64_t output, int64_t input) {
    return panels + PanelElement(panel_elements, output, input);
  };
  ForEachPanelPiece(
      output_begin, rows.dim(0), rows.dim(1),
      [&](int64_t row, int64_t output, int64_t begin, int64_t end) {
        PackBlock(rows.Rows(row, kPackOutputs), begin, end, element(output, 0));
      },
      [&](int64_t row, int64_t output, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) *element(output, i) = rows.row(row)[i];
      });
}

}  // namespace sluice
