#include "formats/fp8/pack.h"

#include <immintrin.h>

#include "formats/fp8/e4m3.h"
#include "formats/load_rows.h"
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

// 16 inputs of eight rows: eight pairs, in panels whose first of these inputs and rows is at `to`.
void StorePairs(__m128i (&rows)[8], uint8_t* to) {
  Transpose(rows);
#pragma GCC unroll 8
  for (int64_t p = 0; p < 8; ++p)
    _mm_store_si128(reinterpret_cast<__m128i*>(to + 2 * p * kPanelOutputs), rows[p]);
}

// FloatToE4M3 of eight finite values, one a 32-bit lane.
__m256i Encode(__m256 x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  const __m256 magnitude = _mm256_min_ps(_mm256_andnot_ps(sign, x), _mm256_set1_ps(kE4M3Max));
  const __m256i bits = _mm256_castps_si256(magnitude);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 20), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(
      _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFFF))), 20);
  const __m256i normal = _mm256_sub_epi32(rounded, _mm256_set1_epi32((127 - 7) << 3));
  const __m256i subnormal = _mm256_cvtps_epi32(_mm256_mul_ps(magnitude, _mm256_set1_ps(0x1p9f)));
  const __m256 is_subnormal = _mm256_cmp_ps(magnitude, _mm256_set1_ps(0x1p-6f), _CMP_LT_OQ);
  const __m256i code = _mm256_blendv_epi8(normal, subnormal, _mm256_castps_si256(is_subnormal));
  const __m256i sign_bit = _mm256_srli_epi32(_mm256_castps_si256(_mm256_and_ps(x, sign)), 24);
  return _mm256_or_si256(code, sign_bit);
}

// Sixteen codes; `divisor` is the scale, or 1 where that is 0.
template <class T>
__m128i Codes(const T* from, __m256 divisor) {
  return ToBytes<false>(Encode(_mm256_div_ps(LoadFloats(from), divisor)),
                        Encode(_mm256_div_ps(LoadFloats(from + 8), divisor)));
}

template <class T>
void QuantizePack(uint8_t* panels, int64_t panel_elements, float* scales, int64_t output_begin,
                  View<const T, 2> rows) {
  const int64_t inputs = rows.dim(1);
  // With a row's first piece.
  const auto set_scale = [&](int64_t row, int64_t output) {
    scales[output] = LargestMagnitude(rows.row(row), inputs) / kE4M3Max;
  };
  const auto divisor = [&](int64_t output) { return scales[output] == 0 ? 1 : scales[output]; };
  ForEachPanelPiece(
      output_begin, rows.dim(0), inputs,
      [&](int64_t row, int64_t output, int64_t begin, int64_t end) {
        __m256 divisors[8];
        for (int64_t r = 0; r < 8; ++r) {
          if (begin == 0) set_scale(row + r, output + r);
          divisors[r] = _mm256_set1_ps(divisor(output + r));
        }
        for (int64_t i = begin; i < end; i += kPackInputs) {
          __m128i codes[8];
#pragma GCC unroll 8
          for (int64_t r = 0; r < 8; ++r) codes[r] = Codes(rows.row(row + r) + i, divisors[r]);
          StorePairs(codes, panels + PanelElement(panel_elements, output, i));
        }
      },
      [&](int64_t row, int64_t output, int64_t begin, int64_t end) {
        if (begin == 0) set_scale(row, output);
        for (int64_t i = begin; i < end; ++i)
          panels[PanelElement(panel_elements, output, i)] =
              FloatToE4M3(AsFloat(rows(row, i)) / divisor(output));
      });
}

}  // namespace

void PackFp8(uint8_t* panels, int64_t panel_elements, int64_t output_begin,
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
          StorePairs(codes, panels + PanelElement(panel_elements, output, i));
        }
      },
      [&](int64_t row, int64_t output, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          panels[PanelElement(panel_elements, output, i)] = rows(row, i);
      });
}

void QuantizePackFp8(uint8_t* panels, int64_t panel_elements, float* scales, int64_t output_begin,
                     View<const float, 2> rows) {
  QuantizePack(panels, panel_elements, scales, output_begin, rows);
}

void QuantizePackFp8(uint8_t* panels, int64_t panel_elements, float* scales, int64_t output_begin,
                     View<const Bf16, 2> rows) {
  QuantizePack(panels, panel_elements, scales, output_begin, rows);
}

}  // namespace sluice
