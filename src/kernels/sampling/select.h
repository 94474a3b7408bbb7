// The best entries of a row without sorting it.
#pragma once

#include <cstdint>

#include "kernels/sampling/row_math.h"

namespace sluice::sampling {

/// Walks ids in descending order of logit, ties to the lower id, and keeps each as long as the
/// measure of those before it is below `target`; returns the last id kept. The measure of an id is
/// its weight, or 1 where `weights` is null. Ids outside `within` do not exist. The first id is
/// always kept. `ids` is scratch for n entries. Linear in n.
Threshold SelectPrefix(const float* x, const float* weights, int64_t n, Threshold within,
                       double target, int32_t* ids);

/// The k best ids in order, written to `ids` (scratch for n entries); returns min(k, n).
int64_t BestIds(const float* x, int64_t n, int64_t k, int32_t* ids);

/// Everything.
inline constexpr Threshold kKeepAll = {-__builtin_huge_valf(), INT32_MAX};

inline bool Keeps(Threshold threshold, float logit, int64_t id) {
  return logit > threshold.logit || (logit == threshold.logit && id <= threshold.last_id);
}

}  // namespace sluice::sampling
