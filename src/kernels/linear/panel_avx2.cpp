#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/linear/panel_product.h"

namespace sluice {
namespace {

#include "kernels/simd/avx2.inc"

struct W {
  using Pairs = __m256i;
  static constexpr int kBlockRows = 6;  // half a panel: 12 sums, 2 weight vectors, 1 of x, 1 spare
  static constexpr int kFewRows = 3;    // of a whole panel beside each other
  static constexpr int PanelVectors(int rows) { return rows == 1 ? 8 : rows <= 3 ? 4 : 2; }

  static Pairs LoadPairs(const Bf16* p) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
  }
  static V::Reg Even(Pairs p) { return _mm256_castsi256_ps(_mm256_slli_epi32(p, 16)); }
  static V::Reg Odd(Pairs p) {
    return _mm256_castsi256_ps(
        _mm256_and_si256(p, _mm256_set1_epi32(static_cast<int>(0xFFFF0000u))));
  }
};

#include "kernels/linear/panel_driver.inc"
#include "kernels/linear/panel_fma.inc"

}  // namespace

void PanelProductAvx2(const PanelProduct& product) { RunPanelProduct<FmaKernel>(product); }

}  // namespace sluice
