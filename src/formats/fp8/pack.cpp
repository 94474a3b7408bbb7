#include "formats/fp8/pack.h"

#include <immintrin.h>

#include "formats/fp8/e4m3.h"
#include "formats/pack_codes.h"

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

struct Quantizer {
  static float Scale(float largest) { return largest / kE4M3Max; }
  template <class T>
  static __m128i Codes(const T* from, __m256 divisor) {
    return ToBytes<false>(Encode(_mm256_div_ps(LoadFloats(from), divisor)),
                          Encode(_mm256_div_ps(LoadFloats(from + 8), divisor)));
  }
  static uint8_t Code(float x, float scale) { return FloatToE4M3(x / (scale == 0 ? 1 : scale)); }
};

auto StoreIn(uint8_t* panels, int64_t panel_elements) {
  return [=](__m128i(&codes)[8], int64_t output, int64_t input) {
    StorePairs(codes, panels + PanelElement(panel_elements, output, input));
  };
}
auto SetIn(uint8_t* panels, int64_t panel_elements) {
  return [=](int64_t output, int64_t input, uint8_t code) {
    panels[PanelElement(panel_elements, output, input)] = code;
  };
}

template <class T>
void QuantizePack(uint8_t* panels, int64_t panel_elements, float* scales, int64_t output_begin,
                  View<const T, 2> rows) {
  QuantizePackCodes<Quantizer>(output_begin, rows, scales, StoreIn(panels, panel_elements),
                               SetIn(panels, panel_elements));
}

}  // namespace

void PackFp8(uint8_t* panels, int64_t panel_elements, int64_t output_begin,
             View<const uint8_t, 2> rows) {
  PackCodes(output_begin, rows, StoreIn(panels, panel_elements), SetIn(panels, panel_elements));
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
