#include "formats/int8/pack.h"

#include <immintrin.h>

#include "formats/int8/quantize.h"
#include "formats/pack_codes.h"

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

struct Quantizer {
  static float Scale(float largest) { return Int8Scale(largest); }
  template <class T>
  static __m128i Codes(const T* from, __m256 divisor) {
    const __m128i codes = ToBytes<true>(Quotients(from, divisor), Quotients(from + 8, divisor));
    return _mm_max_epi8(codes, _mm_set1_epi8(-127));
  }
  static uint8_t Code(float x, float scale) { return static_cast<uint8_t>(Int8Code(x, scale)); }
};

auto StoreIn(uint8_t* panels, int64_t panel_bytes) {
  return [=](const __m128i(&codes)[8], int64_t output, int64_t input) {
    StoreQuads(codes, panels + PanelQuadByte(panel_bytes, output, input));
  };
}
auto SetIn(uint8_t* panels, int64_t panel_bytes) {
  return [=](int64_t output, int64_t input, uint8_t code) {
    panels[PanelQuadByte(panel_bytes, output, input)] = code;
  };
}

template <class T>
void QuantizePack(uint8_t* panels, int64_t panel_bytes, float* scales, int64_t output_begin,
                  View<const T, 2> rows) {
  QuantizePackCodes<Quantizer>(output_begin, rows, scales, StoreIn(panels, panel_bytes),
                               SetIn(panels, panel_bytes));
}

}  // namespace

void PackInt8(uint8_t* panels, int64_t panel_bytes, int64_t output_begin,
              View<const uint8_t, 2> rows) {
  PackCodes(output_begin, rows, StoreIn(panels, panel_bytes), SetIn(panels, panel_bytes));
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
