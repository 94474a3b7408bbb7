#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/linear/panel_product.h"

namespace sluice {
namespace {

#include "kernels/simd/avx512.inc"

struct W {
  using Pairs = __m512i;
  static constexpr int kBlockRows = 12;  // 24 sums, 4 weight vectors; x is a memory operand
  static constexpr int kFewRows = 4;
  // At least 8 chains for two FMA units of latency 4.
  static constexpr int PanelVectors(int rows) { return rows == 1 ? 8 : rows <= 4 ? 4 : 2; }

  static Pairs LoadPairs(const Bf16* p) { return _mm512_load_si512(p); }
  static V::Reg Even(Pairs p) { return _mm512_castsi512_ps(_mm512_slli_epi32(p, 16)); }
  static V::Reg Odd(Pairs p) {
    return _mm512_castsi512_ps(
        _mm512_and_si512(p, _mm512_set1_epi32(static_cast<int>(0xFFFF0000u))));
  }
};

#include "kernels/linear/panel_driver.inc"
#include "kernels/linear/panel_fma.inc"

}  // namespace

void PanelProductAvx512(const PanelProduct& product) { RunPanelProduct<FmaKernel>(product); }

}  // namespace sluice
