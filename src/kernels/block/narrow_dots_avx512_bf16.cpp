#include <immintrin.h>

#include "kernels/block/block_ops.h"

namespace sluice {
namespace {

#include "kernels/simd/avx512.inc"

constexpr int64_t kTogether = 4;                  // rows of A in one register, a quarter each
constexpr int64_t kQuarter = 8;                   // bfloat16s
constexpr int64_t kPiece = kTogether * kQuarter;  // of packed A: four rows' eight values
constexpr int kColumns = 16;                      // chains under way, two units of latency 6

int64_t Pieces(int64_t depth) { return (depth + kQuarter - 1) / kQuarter; }

// The first `count` values of eight, the others zero.
__m128i LoadPart(const uint16_t* x, int64_t count) {
  return _mm_maskz_loadu_epi16(static_cast<__mmask8>((1u << count) - 1), x);
}

// The sums of each quarter of four vectors: quarter r's are those of row r and the four columns.
V::Reg SumQuarters(const V::Reg* x) {
  const V::Reg ab = V::Add(_mm512_unpacklo_ps(x[0], x[1]), _mm512_unpackhi_ps(x[0], x[1]));
  const V::Reg cd = V::Add(_mm512_unpacklo_ps(x[2], x[3]), _mm512_unpackhi_ps(x[2], x[3]));
  return V::Add(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE));
}

// Columns [j, j + 16) of four packed rows; of the sums, those of `rows` rows and of the columns
// that there are.
void Tile(const BlockNarrowDots& p, const uint16_t* a, int64_t j, float* c, int64_t rows) {
  const int64_t live = p.columns - j, depth = p.depth, b_row = p.b_row;
  const uint16_t* const b = static_cast<const uint16_t*>(p.b) + j * b_row;
  V::Reg sum[kColumns];
#pragma GCC unroll 16
  for (V::Reg& x : sum) x = V::Zero();
  const auto step = [&](auto load, int64_t d) {
    const __m512i row = _mm512_load_si512(a + d * kTogether);
    const uint16_t* four = b + d;  // columns n, ...: few enough addresses to stay in registers
#pragma GCC unroll 4
    for (int n = 0; n < kColumns; n += 4, four += 4 * b_row)
#pragma GCC unroll 4
      for (int m = 0; m < 4; ++m)
        sum[n + m] = _mm512_dpbf16_ps(
            sum[n + m], reinterpret_cast<__m512bh>(row),
            reinterpret_cast<__m512bh>(_mm512_broadcast_i32x4(load(four + m * b_row))));
  };
  int64_t d = 0;
  for (; d + kQuarter <= depth; d += kQuarter)
    step([](const uint16_t* x) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(x)); }, d);
  if (d < depth) step([=](const uint16_t* x) { return LoadPart(x, depth - d); }, d);
  // Four columns of four rows each, to sixteen columns of each row.
  const V::Reg q[4] = {SumQuarters(sum), SumQuarters(sum + 4), SumQuarters(sum + 8),
                       SumQuarters(sum + 12)};
  const V::Reg low01 = _mm512_shuffle_f32x4(q[0], q[1], 0x44);
  const V::Reg low23 = _mm512_shuffle_f32x4(q[2], q[3], 0x44);
  const V::Reg high01 = _mm512_shuffle_f32x4(q[0], q[1], 0xEE);
  const V::Reg high23 = _mm512_shuffle_f32x4(q[2], q[3], 0xEE);
  const __mmask16 mask = live >= kColumns ? 0xffff : V::Mask(live);
  const auto store = [&](int64_t r, V::Reg x) {
    if (r < rows) _mm512_mask_storeu_ps(c + r * p.c_row + j, mask, x);
  };
  store(0, _mm512_shuffle_f32x4(low01, low23, 0x88));
  store(1, _mm512_shuffle_f32x4(low01, low23, 0xDD));
  store(2, _mm512_shuffle_f32x4(high01, high23, 0x88));
  store(3, _mm512_shuffle_f32x4(high01, high23, 0xDD));
}

}  // namespace

void PackNarrowRowsAvx512(const float* from, int64_t from_row, int64_t rows, int64_t depth,
                          void* to) {
  uint16_t* packed = static_cast<uint16_t*>(to);
  for (int64_t i = 0; i < rows; i += kTogether)
    for (int64_t d = 0; d < depth; d += kQuarter)
      for (int64_t r = i; r < i + kTogether; ++r, packed += kQuarter) {
        const int64_t live = r >= rows ? 0 : depth - d < kQuarter ? depth - d : kQuarter;
        const __m256i bits = _mm256_maskz_loadu_epi32(static_cast<__mmask8>((1u << live) - 1),
                                                      from + r * from_row + d);
        _mm_store_si128(reinterpret_cast<__m128i*>(packed),
                        _mm256_cvtepi32_epi16(_mm256_srli_epi32(bits, 16)));
      }
}

void NarrowDotsAvx512Bf16(const BlockNarrowDots& dots) {
  const int64_t pieces = Pieces(dots.depth);
  for (int64_t i = 0; i < dots.rows; i += kTogether) {
    const uint16_t* const a =
        static_cast<const uint16_t*>(dots.packed_a) + i / kTogether * pieces * kPiece;
    const int64_t rows = dots.rows - i < kTogether ? dots.rows - i : kTogether;
    for (int64_t j = 0; j < dots.columns; j += kColumns)
      Tile(dots, a, j, dots.c + i * dots.c_row, rows);
  }
}

}  // namespace sluice
