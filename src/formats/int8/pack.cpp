#include "formats/int8/pack.h"

#include <immintrin.h>

#include "formats/panel_pieces.h"

namespace sluice {
namespace {

// 4 rows of 16 inputs: register i becomes quad i of every row.
void Transpose(__m128i (&r)[4]) {
  const __m128i a = _mm_unpacklo_epi32(r[0], r[1]), b = _mm_unpackhi_epi32(r[0], r[1]);
  const __m128i c = _mm_unpacklo_epi32(r[2], r[3]), d = _mm_unpackhi_epi32(r[2], r[3]);
  r[0] = _mm_unpacklo_epi64(a, c);
  r[1] = _mm_unpackhi_epi64(a, c);
  r[2] = _mm_unpacklo_epi64(b, d);
  r[3] = _mm_unpackhi_epi64(b, d);
}

// Eight rows' inputs [begin, end), a multiple of kPackInputs of them; `to` is the first row's.
void PackBlock(View<const uint8_t, 2> rows, int64_t begin, int64_t end, uint8_t* to) {
  for (int64_t i = begin; i < end; i += kPackInputs)
    for (int64_t half = 0; half < 2; ++half) {
      __m128i quads[4];
#pragma GCC unroll 4
      for (int64_t r = 0; r < 4; ++r) {
        const uint8_t* from = rows.row(half * 4 + r) + i;
        _mm_prefetch(reinterpret_cast<const char*>(from) + kPackPrefetchBytes, _MM_HINT_T0);
        quads[r] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
      }
      Transpose(quads);
#pragma GCC unroll 4
      for (int64_t q = 0; q < 4; ++q)
        _mm_store_si128(reinterpret_cast<__m128i*>(to + (i + 4 * q) * kPanelOutputs + half * 16),
                        quads[q]);
    }
}

}  // namespace

void PackInt8(uint8_t* panels, int64_t panel_bytes, int64_t output_begin,
              View<const uint8_t, 2> rows) {
  ForEachPanelPiece(
      output_begin, rows.dim(0), rows.dim(1),
      [&](int64_t row, int64_t output, int64_t begin, int64_t end) {
        PackBlock(rows.Rows(row, kPackOutputs), begin, end,
                  panels + PanelQuadByte(panel_bytes, output, 0));
      },
      [&](int64_t row, int64_t output, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          panels[PanelQuadByte(panel_bytes, output, i)] = rows(row, i);
      });
}

}  // namespace sluice
