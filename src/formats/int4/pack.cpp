#include "formats/int4/pack.h"

#include <immintrin.h>

#include "formats/panel_pieces.h"

namespace sluice {
namespace {

// Two blocks of eight inputs of one row: their bytes in elements 0 and 2, anything in 1 and 3.
__m128i Nibbles(const uint8_t* codes) {
  const __m128i c = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
  return _mm_or_si128(c, _mm_srli_epi64(c, 28));  // the second four, moved up a nibble
}

__m128i Even(__m128i a, __m128i b) {
  return _mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b), 0x88));
}

// Eight rows' inputs [begin, end), a multiple of kPackInputs of them; `to` is the first row's.
void PackBlock(View<const uint8_t, 2> rows, int64_t begin, int64_t end, uint8_t* to) {
  for (int64_t i = begin; i < end; i += kPackInputs)
    for (int64_t half = 0; half < 2; ++half) {
      __m128i x[4];
#pragma GCC unroll 4
      for (int64_t r = 0; r < 4; ++r) {
        const uint8_t* from = rows.row(half * 4 + r) + i;
        _mm_prefetch(reinterpret_cast<const char*>(from) + kPackPrefetchBytes, _MM_HINT_T0);
        x[r] = Nibbles(from);
      }
      // Rows 0 and 1: blocks 0, 1 of row 0, then of row 1. To one register a block.
      const __m128i a = Even(x[0], x[1]), b = Even(x[2], x[3]);
      const __m128i first = Even(a, b);
      const __m128i second = Even(_mm_srli_si128(a, 4), _mm_srli_si128(b, 4));
      uint8_t* line = to + i / 2 * kPanelOutputs + half * 16;
      _mm_store_si128(reinterpret_cast<__m128i*>(line), first);
      _mm_store_si128(reinterpret_cast<__m128i*>(line + 4 * kPanelOutputs), second);
    }
}

void SetNibble(uint8_t* panels, int64_t panel_bytes, int64_t output, int64_t input, uint8_t code) {
  uint8_t& byte = panels[PanelNibbleByte(panel_bytes, output, input)];
  const int shift = PanelNibbleShift(input);
  byte = static_cast<uint8_t>((byte & ~(0x0F << shift)) | code << shift);
}

}  // namespace

void PackInt4(uint8_t* panels, int64_t panel_bytes, int64_t output_begin,
              View<const uint8_t, 2> rows) {
  ForEachPanelPiece(
      output_begin, rows.dim(0), rows.dim(1),
      [&](int64_t row, int64_t output, int64_t begin, int64_t end) {
        PackBlock(rows.Rows(row, kPackOutputs), begin, end,
                  panels + PanelNibbleByte(panel_bytes, output, 0));
      },
      [&](int64_t row, int64_t output, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          SetNibble(panels, panel_bytes, output, i, rows(row, i));
      });
}

void FillInt4Padding(uint8_t* panels, int64_t panel_bytes, int64_t output, int64_t inputs,
                     uint8_t zero) {
  const int64_t padded = panel_bytes * 2 / kPanelOutputs;
  for (int64_t i = inputs; i < padded; ++i) SetNibble(panels, panel_bytes, output, i, zero);
}

}  // namespace sluice
