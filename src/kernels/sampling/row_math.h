// Passes over one row of logits, in AVX2, the floor that the whole program is compiled for: there
// is one implementation, so every machine gets the same bits.
#pragma once

#include <cstdint>

namespace sluice::sampling {

/// Index of the first NaN or infinity, or -1.
int64_t FindNotFinite(const float* x, int64_t n);

/// Whether all values are finite; then `max` is the largest one (-inf for none).
bool MaxOfFinite(const float* x, int64_t n, float* max);

/// The largest value; -inf for none.
float Max(const float* x, int64_t n);

/// Lowest index whose value equals `value`, or -1.
int64_t FindFirst(const float* x, int64_t n, float value);

/// sum_i exp((x[i] - max) * scale) in doubles; writes the terms to `weights` if it is not null.
/// A term's relative error is below 3e-7 for arguments above -80; under -87 terms are zero.
double ExpSum(const float* x, int64_t n, float max, float scale, float* weights);

/// Ids kept by top-k or top-p: those with a larger logit, and ids up to `last_id` with this one.
struct Threshold {
  float logit;
  int32_t last_id;
};

/// Zeroes the weights that are not kept or below `weight_min`, writes the sum of each block of
/// kSumBlock weights and returns their sum.
inline constexpr int64_t kSumBlock = 512;
double KeepAndSum(const float* x, float* weights, int64_t n, Threshold keep, float weight_min,
                  double* block_sums);

}  // namespace sluice::sampling
