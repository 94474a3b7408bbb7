#include "formats/int4/pack.h"

#include <immintrin.h>

#include "formats/int4/quantize.h"
#include "formats/pack_codes.h"

namespace sluice {
namespace {

// Two blocks of eight inputs of one row: their bytes in elements 0 and 2, anything in 1 and 3.
__m128i Nibbles(__m128i codes) {
  return _mm_or_si128(codes, _mm_srli_epi64(codes, 28));  // the second four, moved up a nibble
}

__m128i Elements(__m128i a, __m128i b, std::integral_constant<int, 0>) {
  return _mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b), 0x88));
}
__m128i Elements(__m128i a, __m128i b, std::integral_constant<int, 1>) {
  return _mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b), 0xDD));
}
constexpr std::integral_constant<int, 0> kEven;
constexpr std::integral_constant<int, 1> kOdd;

// 16 inputs of eight rows, a byte each: two blocks, in panels whose first of these inputs and rows
// is at `to`.
void StoreBlocks(const __m128i (&rows)[8], uint8_t* to) {
  for (int half = 0; half < 2; ++half) {
    const __m128i* r = rows + 4 * half;
    // Block 0 and 1 of the first row, then of the second.
    const __m128i a = Elements(Nibbles(r[0]), Nibbles(r[1]), kEven);
    const __m128i b = Elements(Nibbles(r[2]), Nibbles(r[3]), kEven);
    auto* line = reinterpret_cast<__m128i*>(to + half * 16);
    _mm_store_si128(line, Elements(a, b, kEven));
    _mm_store_si128(line + 4 * kPanelOutputs / 16, Elements(a, b, kOdd));
  }
}

void SetNibble(uint8_t* panels, int64_t panel_bytes, int64_t output, int64_t input, uint8_t code) {
  uint8_t& byte = panels[PanelNibbleByte(panel_bytes, output, input)];
  const int shift = PanelNibbleShift(input);
  byte = static_cast<uint8_t>((byte & ~(0x0F << shift)) | code << shift);
}

// The extremes of `count` inputs, a multiple of 32, of eight rows: one lane a row.
struct Extremes {
  __m256 smallest, largest;
};

// Lane r: the extreme of register r.
template <class Op>
__m256 Across(const __m256 (&x)[8], Op op) {
  __m256 pairs[4], quads[2];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
    pairs[i] =
        op(_mm256_unpacklo_ps(x[2 * i], x[2 * i + 1]), _mm256_unpackhi_ps(x[2 * i], x[2 * i + 1]));
    // Each 128-bit half now has (row 2i, row 2i + 1) twice.
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i)
    quads[i] = op(_mm256_shuffle_ps(pairs[2 * i], pairs[2 * i + 1], 0x44),
                  _mm256_shuffle_ps(pairs[2 * i], pairs[2 * i + 1], 0xEE));
  return op(_mm256_permute2f128_ps(quads[0], quads[1], 0x20),
            _mm256_permute2f128_ps(quads[0], quads[1], 0x31));
}

template <class T>
Extremes ExtremesOf(View<const T, 2> rows, int64_t row, int64_t begin, int64_t count) {
  const auto min = [](__m256 a, __m256 b) { return _mm256_min_ps(a, b); };
  const auto max = [](__m256 a, __m256 b) { return _mm256_max_ps(a, b); };
  __m256 smallest[8], largest[8];
#pragma GCC unroll 8
  for (int64_t r = 0; r < 8; ++r) {
    const T* from = rows.row(row + r) + begin;
    _mm_prefetch(reinterpret_cast<const char*>(from) + kPackPrefetchBytes, _MM_HINT_T0);
    const __m256 a = LoadFloats(from), b = LoadFloats(from + 8);
    const __m256 c = LoadFloats(from + 16), d = LoadFloats(from + 24);
    smallest[r] = min(min(a, b), min(c, d));
    largest[r] = max(max(a, b), max(c, d));
    for (int64_t i = 32; i < count; i += 16) {
      if (i % 32 == 0)
        _mm_prefetch(reinterpret_cast<const char*>(from + i) + kPackPrefetchBytes, _MM_HINT_T0);
      const __m256 e = LoadFloats(from + i), f = LoadFloats(from + i + 8);
      smallest[r] = min(smallest[r], min(e, f));
      largest[r] = max(largest[r], max(e, f));
    }
  }
  return {Across(smallest, min), Across(largest, max)};
}

// ChooseInt4Group of eight rows.
struct Groups {
  __m256i scales;  // bits of floats that are bfloat16s
  __m256i zeros;
  __m256 divisors;  // the scales, or 1 where they are 0
};

Groups ChooseGroups(const Extremes& e, bool zero_points) {
  const __m256 sign = _mm256_set1_ps(-0.0f), none = _mm256_setzero_ps();
  const __m256 below = _mm256_andnot_ps(sign, _mm256_min_ps(e.smallest, none));
  const __m256 above = _mm256_max_ps(e.largest, none);
  const auto round_up = [](__m256 x) {
    const __m256i bits = _mm256_add_epi32(_mm256_castps_si256(x), _mm256_set1_epi32(0xFFFF));
    return _mm256_and_si256(bits, _mm256_set1_epi32(static_cast<int>(0xFFFF0000u)));
  };
  Groups out;
  if (zero_points) {
    const __m256 steps = _mm256_set1_ps(kInt4Max);
    out.scales = round_up(_mm256_add_ps(_mm256_div_ps(below, steps), _mm256_div_ps(above, steps)));
  } else {
    const __m256 larger = _mm256_div_ps(_mm256_max_ps(below, above), _mm256_set1_ps(8));
    const __m256 other = _mm256_div_ps(_mm256_min_ps(below, above), _mm256_set1_ps(7.5f));
    const __m256 flip = _mm256_and_ps(_mm256_cmp_ps(above, below, _CMP_GT_OQ), sign);
    out.scales = _mm256_or_si256(round_up(_mm256_max_ps(larger, other)), _mm256_castps_si256(flip));
  }
  const __m256 scales = _mm256_castsi256_ps(out.scales);
  out.divisors =
      _mm256_blendv_ps(scales, _mm256_set1_ps(1), _mm256_cmp_ps(scales, none, _CMP_EQ_OQ));
  out.zeros = zero_points ? _mm256_min_epi32(_mm256_cvtps_epi32(_mm256_div_ps(below, out.divisors)),
                                             _mm256_set1_epi32(kInt4Max))
                          : _mm256_set1_epi32(kInt4Zero);
  return out;
}

// Sixteen codes.
template <class T>
__m128i Codes(const T* from, __m256 divisor, __m256i zero) {
  const __m128i codes = ToBytes<false>(_mm256_add_epi32(Quotients(from, divisor), zero),
                                       _mm256_add_epi32(Quotients(from + 8, divisor), zero));
  return _mm_min_epu8(codes, _mm_set1_epi8(kInt4Max));
}

// One group of eight rows, which become outputs from `output` on.
template <class T>
void QuantizePackGroup(const Int4Panels& to, View<const T, 2> rows, int64_t row, int64_t output,
                       int64_t begin) {
  const Groups groups = ChooseGroups(ExtremesOf(rows, row, begin, to.group), to.zero_points);
  const int64_t at = to.ScaleAt(output, begin / to.group);
  const auto words = [](__m256i x) {  // eight small integers
    return _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  };
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to.scales + at),
                   words(_mm256_srli_epi32(groups.scales, 16)));
  if (to.zero_points)
    _mm_storeu_si64(to.zero_points + at, _mm_packus_epi16(words(groups.zeros), __m128i()));
  alignas(32) float divisors[8];
  alignas(32) int32_t zeros[8];
  _mm256_store_ps(divisors, groups.divisors);
  _mm256_store_si256(reinterpret_cast<__m256i*>(zeros), groups.zeros);
  for (int64_t i = begin; i < begin + to.group; i += kPackInputs) {
    __m128i codes[8];
#pragma GCC unroll 8
    for (int64_t r = 0; r < 8; ++r)
      codes[r] =
          Codes(rows.row(row + r) + i, _mm256_set1_ps(divisors[r]), _mm256_set1_epi32(zeros[r]));
    StoreBlocks(codes, to.panels + PanelNibbleByte(to.panel_bytes, output, i));
  }
}

template <class T>
void QuantizePack(const Int4Panels& to, int64_t output_begin, View<const T, 2> rows) {
  ForEachPanelPiece(
      output_begin, rows.dim(0), rows.dim(1),
      [&](int64_t row, int64_t output, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i += to.group) QuantizePackGroup(to, rows, row, output, i);
      },
      [&](int64_t row, int64_t output, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i += to.group) {
          const int64_t stop = std::min(i + to.group, end);
          float smallest = 0, largest = 0;
          for (int64_t j = i; j < stop; ++j) {
            smallest = std::min(smallest, AsFloat(rows(row, j)));
            largest = std::max(largest, AsFloat(rows(row, j)));
          }
          const Int4Group group = ChooseInt4Group(smallest, largest, to.zero_points);
          const int64_t at = to.ScaleAt(output, i / to.group);
          to.scales[at] = group.scale;
          if (to.zero_points) to.zero_points[at] = group.zero;
          for (int64_t j = i; j < stop; ++j)
            SetNibble(to.panels, to.panel_bytes, output, j, Int4Code(AsFloat(rows(row, j)), group));
        }
      },
      to.group);
  FillInt4Padding(to, output_begin, rows.dim(0), rows.dim(1));
}

}  // namespace

int64_t Int4Panels::ScaleAt(int64_t output, int64_t block) const {
  return (output / kPanelOutputs * blocks + block) * kPanelOutputs + output % kPanelOutputs;
}

uint8_t Int4Panels::ZeroPoint(int64_t output, int64_t block) const {
  return zero_points ? zero_points[ScaleAt(output, block)] : kInt4Zero;
}

void PackInt4(const Int4Panels& to, int64_t output_begin, View<const uint8_t, 2> rows) {
  PackCodes(
      output_begin, rows,
      [&](const __m128i(&codes)[8], int64_t output, int64_t input) {
        StoreBlocks(codes, to.panels + PanelNibbleByte(to.panel_bytes, output, input));
      },
      [&](int64_t output, int64_t input, uint8_t code) {
        SetNibble(to.panels, to.panel_bytes, output, input, code);
      });
  FillInt4Padding(to, output_begin, rows.dim(0), rows.dim(1));
}

void QuantizePackInt4(const Int4Panels& to, int64_t output_begin, View<const float, 2> rows) {
  QuantizePack(to, output_begin, rows);
}

void QuantizePackInt4(const Int4Panels& to, int64_t output_begin, View<const Bf16, 2> rows) {
  QuantizePack(to, output_begin, rows);
}

void FillInt4Padding(const Int4Panels& to, int64_t output_begin, int64_t outputs, int64_t inputs) {
  const int64_t padded = to.panel_bytes * 2 / kPanelOutputs;
  for (int64_t o = output_begin; o < output_begin + outputs; ++o)
    for (int64_t i = inputs; i < padded; ++i)
      SetNibble(to.panels, to.panel_bytes, o, i, to.ZeroPoint(o, to.blocks - 1));
}

}  // namespace sluice
