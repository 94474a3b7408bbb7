// Routed rows in the order in which experts take them.
#pragma once

#include <cstdint>

#include "kernels/moe/moe.h"

namespace sluice {

/// Rows (pairs of a token and one of its experts) sorted by expert, within one by token, and of one
/// token by j.
struct ExpertRows {
  const int32_t* begins;  // [experts + 1] first row of every expert
  const int32_t* tokens;  // [tokens * top_k] token of every row
  const float* weights;   // [tokens * top_k] routing weight of every row
};

/// In `scratch`; ids are CHECKed. Takes ExpertRowsBytes at most.
ExpertRows SortByExpert(const MoeArgs& args, Arena& scratch);
uint64_t ExpertRowsBytes(int64_t tokens, int64_t top_k, int64_t experts);

}  // namespace sluice
