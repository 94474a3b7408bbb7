// Codes, and floats that become codes with one scale an output, into the panels of a format.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "formats/load_rows.h"
#include "formats/panel_pieces.h"
#include "tensor/view.h"

namespace sluice {

/// Packs the codes of `rows`, a byte each, from `output_begin` on:
///   store(codes, output, input)  inputs [input, input + 16) of eight outputs: __m128i[8]
///   set(output, input, code)     one code
template <class Store, class Set>
void PackCodes(int64_t output_begin, View<const uint8_t, 2> rows, Store&& store, Set&& set) {
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
          store(codes, output, i);
        }
      },
      [&](int64_t row, int64_t output, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) set(output, i, rows(row, i));
      });
}

/// Quantises and packs `rows` in one pass; `store` and `set` as above, scales[o] becomes the scale
/// of output o. Of the format Q:
///   Scale(largest)        from the largest magnitude of a row
///   Codes(from, divisor)  sixteen codes; `divisor` is the scale, or 1 where that is 0
///   Code(x, scale)        one
template <class Q, class T, class Store, class Set>
void QuantizePackCodes(int64_t output_begin, View<const T, 2> rows, float* scales, Store&& store,
                       Set&& set) {
  const int64_t inputs = rows.dim(1);
  // With a row's first piece.
  const auto set_scale = [&](int64_t row, int64_t output) {
    scales[output] = Q::Scale(LargestMagnitude(rows.row(row), inputs));
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
          for (int64_t r = 0; r < 8; ++r) codes[r] = Q::Codes(rows.row(row + r) + i, divisors[r]);
          store(codes, output, i);
        }
      },
      [&](int64_t row, int64_t output, int64_t begin, int64_t end) {
        if (begin == 0) set_scale(row, output);
        for (int64_t i = begin; i < end; ++i)
          set(output, i, Q::Code(AsFloat(rows(row, i)), scales[output]));
      });
}

}  // namespace sluice
