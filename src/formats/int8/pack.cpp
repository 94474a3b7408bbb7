#include "formats/int8/pack.h"

#include <immintrin.h>

#include "formats/int8/quantize.h"
#include "formats/load_rows.h"
#include "formats/panel_pieces.h"

namespace sluice {
namespace {

// 16 inputs of eight rows: four quads, in panels whose first of these inputs and rows is at `to`.
void StoreQuads(const __m128i (&rows)[8], uint8_t* to) {
  for (int half = 0; half < 2; ++half) {
    const __m128i* r = rows + 4 * half;
    const __m128i a = _mm_unpacklo_epi32(r[0], r[1]), b = _mm_unpackhi_epi32(r[0], r[1]);
    const __m128i c = _mm_unpacklo_epi32(r[2], r[3]), d = _mm_unpackhi_epi32(r[2], r[3]);
    const __m128i quads[4] = {_mm_unpacklo_epi64(a, c), _mm_unpackhi_epi64(a, c),
                              _mm_unpacklo_epi64(b, d), _mm_unpackhi_epi64(b, d)};
#pragma GCC unroll 4
    for (int64_t q = 0; q < 4; ++q)
      _mm_store_si128(reinterpret_cast<__m128i*>(to + 4 * q * kPanelOutputs + half * 16), quads[q]);
  }
}

// Sixteen codes; `divisor` is the scale, or 1 where that is 0.
template <class T>
__m128i Codes(const T* from, __m256 divisor) {
  const __m128i codes = ToBytes<true>(Quotients(from, divisor), Quotients(from + 8, divisor));
  return _mm_max_epi8(codes, _mm_set1_epi8(-127));
}

template <class T>
void QuantizePack(uint8_t* panels, int64_t panel_bytes, float* scales, int64_t output_begin,
                  View<const T, 2> rows) {
  const int64_t inputs = rows.dim(1);
  // With a row's first piece.
  const auto set_scale = [&](int64_t row, int64_t output) {
    scales[output] = Int8Scale(LargestMagnitude(rows.row(row), inputs));
  };
  ForEachPanelPiece(
      output_begin, rows.dim(0), inputs,
      [&](int64_t row, int64_t output, int64_t begin, int64_t end) {
        __m256 divisors[8];
        for (int64_t r = 0; r < 8; ++r) {
          if (begin == 0) set_scale(row + r, output + r);
          divisors[r] = _mm256_set1_ps(scales[output + r] == 0 ? 1 : scales[output + r]);
        }
        for (int64_t i = begin; i < end; i += kPackInputs) {
          __m128i codes[8];
#pragma GCC unroll 8
          for (int64_t r = 0; r < 8; ++r) codes[r] = Codes(rows.row(row + r) + i, divisors[r]);
          StoreQuads(codes, panels + PanelQuadByte(panel_bytes, output, i));
        }
      },
      [&](int64_t row, int64_t output, int64_t begin, int64_t end) {
        if (begin == 0) set_scale(row, output);
        for (int64_t i = begin; i < end; ++i)
          panels[PanelQuadByte(panel_bytes, output, i)] =
              static_cast<uint8_t>(Int8Code(AsFloat(rows(row, i)), scales[output]));
      });
}

}  // namespace

void PackInt8(uint8_t* panels, int64_t panel_bytes, int64_t output_begin,
              View<const uint8_t, 2> rows) {
  ForEachPanelPiece(
      output_begin, rows.dim(0), rows.dim(1),
      [&](int64_t row, int64_t output, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i += kPackInputs) {
          __m128i codes[8];
#pragma GCC unroll 8
          for (int64_t r = 0; r < 8; ++r) {
            const uint8_t* from = rows.row(row + r) + i;
            _mm_prefetch(reinterpret_cast<const char*>(from) + kPackPrefetchBytes, _MM_HINT_T0);
            codes[r] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
          }
          StoreQuads(codes, panels + PanelQuadByte(panel_bytes, output, i));
        }
      },
      [&](int64_t row, int64_t output, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          panels[PanelQuadByte(panel_bytes, output, i)] = rows(row, i);
      });
}

void QuantizePackInt8(uint8_t* panels, int64_t panel_bytes, float* scales, int64_t output_begin,
                      View<const float, 2> rows) {
  QuantizePack(panels, panel_bytes, scales, output_begin, rows);
}

void QuantizePackInt8(uint8_t* panels, int64_t panel_bytes, float* scales, int64_t output_begin,
                      View<const Bf16, 2> rows) {
  QuantizePack(panels, panel_bytes, scales, output_begin, rows);
}

}  // namespace sluice
