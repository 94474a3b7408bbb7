#include "kernels/sampling/row_math.h"

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace sluice::sampling {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Lanes [0, count) set; count >= 8 sets all.
__m256i FirstLanes(int64_t count) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(std::min<int64_t>(count, 8))), lane);
}

// exp for x <= 0: 2^n e^r with |r| <= ln(2) / 2 and a Taylor-like minimax polynomial (Cephes expf).
// Exactly 1 at 0 and exactly 0 below -87.
__m256 Exp(__m256 x) {
  const __m256 live = _mm256_cmp_ps(x, _mm256_set1_ps(-87.0f), _CMP_GE_OQ);
  x = _mm256_max_ps(x, _mm256_set1_ps(-87.0f));
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504088896341f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  __m256 p = _mm256_set1_ps(1.9875691500e-4f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
  p = _mm256_fmadd_ps(_mm256_mul_ps(r, r), p, _mm256_add_ps(r, _mm256_set1_ps(1.0f)));
  const __m256i exponent =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_and_ps(live, _mm256_mul_ps(p, _mm256_castsi256_ps(exponent)));
}

// Eight running sums in doubles, added up in a fixed order.
class Sum {
 public:
  void Add(__m256 x) {
    low_ = _mm256_add_pd(low_, _mm256_cvtps_pd(_mm256_castps256_ps128(x)));
    high_ = _mm256_add_pd(high_, _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)));
  }
  double Total() const {
    alignas(32) double s[4];
    _mm256_store_pd(s, _mm256_add_pd(low_, high_));
    return (s[0] + s[1]) + (s[2] + s[3]);
  }

 private:
  __m256d low_ = _mm256_setzero_pd();
  __m256d high_ = _mm256_setzero_pd();
};

}  // namespace

int64_t FindNotFinite(const float* x, int64_t n) {
  const float* const at = std::find_if(x, x + n, [](float value) { return !std::isfinite(value); });
  return at == x + n ? -1 : at - x;
}

bool MaxOfFinite(const float* x, int64_t n, float* out) {
  constexpr int kChains = 4;  // that do not wait on each other
  __m256 max[kChains], wrong[kChains];
  for (int c = 0; c < kChains; ++c) {
    max[c] = _mm256_set1_ps(kMinusInfinity);
    wrong[c] = _mm256_setzero_ps();
  }
  const auto add = [&](int c, int64_t at) {
    const __m256 value = _mm256_loadu_ps(x + at);
    max[c] = _mm256_max_ps(max[c], value);
    // NaN * 0 and infinity * 0 are NaN.
    wrong[c] = _mm256_fmadd_ps(value, _mm256_setzero_ps(), wrong[c]);
  };
  int64_t i = 0;
  for (; i + kChains * 8 <= n; i += kChains * 8)
#pragma GCC unroll 4
    for (int c = 0; c < kChains; ++c) add(c, i + c * 8);
  for (; i + 8 <= n; i += 8) add(0, i);
  for (int c = 1; c < kChains; ++c) {
    max[0] = _mm256_max_ps(max[0], max[c]);
    wrong[0] = _mm256_add_ps(wrong[0], wrong[c]);
  }
  bool finite = _mm256_movemask_ps(_mm256_cmp_ps(wrong[0], wrong[0], _CMP_UNORD_Q)) == 0;
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, max[0]);
  *out = *std::max_element(lanes, lanes + 8);
  for (; i < n; ++i) {
    finite &= std::isfinite(x[i]);
    *out = std::max(*out, x[i]);
  }
  return finite;
}

float Max(const float* x, int64_t n) {
  __m256 max = _mm256_set1_ps(kMinusInfinity);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) max = _mm256_max_ps(max, _mm256_loadu_ps(x + i));
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, max);
  float out = *std::max_element(lanes, lanes + 8);
  for (; i < n; ++i) out = std::max(out, x[i]);
  return out;
}

int64_t FindFirst(const float* x, int64_t n, float value) {
  const __m256 wanted = _mm256_set1_ps(value);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const int equal = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + i), wanted, _CMP_EQ_OQ));
    if (equal != 0) return i + __builtin_ctz(equal);
  }
  for (; i < n; ++i)
    if (x[i] == value) return i;
  return -1;
}

double ExpSum(const float* x, int64_t n, float max, float scale, float* weights) {
  const __m256 vmax = _mm256_set1_ps(max), vscale = _mm256_set1_ps(scale);
  Sum sum;
  for (int64_t i = 0; i < n; i += 8) {
    const __m256i lanes = FirstLanes(n - i);
    const __m256 value = _mm256_maskload_ps(x + i, lanes);
    const __m256 weight = _mm256_and_ps(_mm256_castsi256_ps(lanes),
                                        Exp(_mm256_mul_ps(_mm256_sub_ps(value, vmax), vscale)));
    if (weights != nullptr) _mm256_maskstore_ps(weights + i, lanes, weight);
    sum.Add(weight);
  }
  return sum.Total();
}

double KeepAndSum(const float* x, float* weights, int64_t n, Threshold keep, float weight_min,
                  double* block_sums) {
  const __m256 logit = _mm256_set1_ps(keep.logit), least = _mm256_set1_ps(weight_min);
  const __m256i last_id = _mm256_set1_epi32(keep.last_id);
  const __m256i step = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kSumBlock) {
    const int64_t end = std::min(n, begin + kSumBlock);
    Sum sum;
    for (int64_t i = begin; i < end; i += 8) {
      const __m256i lanes = FirstLanes(end - i);
      const __m256 value = _mm256_maskload_ps(x + i, lanes);
      const __m256i id = _mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(i)), step);
      const __m256 within = _mm256_andnot_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(id, last_id)),
                                             _mm256_cmp_ps(value, logit, _CMP_EQ_OQ));
      const __m256 above = _mm256_cmp_ps(value, logit, _CMP_GT_OQ);
      __m256 weight = _mm256_maskload_ps(weights + i, lanes);
      const __m256 enough = _mm256_cmp_ps(weight, least, _CMP_GE_OQ);
      weight = _mm256_and_ps(weight, _mm256_and_ps(enough, _mm256_or_ps(within, above)));
      _mm256_maskstore_ps(weights + i, lanes, weight);
      sum.Add(weight);
    }
    total += block_sums[begin / kSumBlock] = sum.Total();
  }
  return total;
}

}  // namespace sluice::sampling
