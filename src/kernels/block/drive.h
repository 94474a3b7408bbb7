// What the drivers over block_ops.h share: causal products, and even shares of uneven work.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/machine.h"
#include "kernels/block/block_ops.h"

namespace sluice {

/// The table of the machine's instruction set.
const BlockOps& SelectBlockOps(const Machine& machine);

/// `p` with row i reaching depth p.depth + i instead of p.depth, and reading no row of B beyond:
/// the rows of a causal mask's diagonal.
void CausalProduct(const BlockOps& ops, BlockProduct p);

/// Hands out `heads` equal items of each of `sequences` groups, in order, in contiguous shares of
/// about equal cost: calls run(sequence, head_begin, head_end) for each of the lane's shares that
/// is not empty. cost(sequence) >= 0 is what one head of it costs, in any unit.
template <class Cost, class Run>
void ForHeadShares(int64_t sequences, int64_t heads, int lane, int lanes, Cost&& cost, Run&& run) {
  double total = 0;
  for (int64_t s = 0; s < sequences; ++s) total += cost(s) * static_cast<double>(heads);
  const double begin = total * lane / lanes, end = total * (lane + 1) / lanes;
  // A head belongs to the lane whose share holds its middle; the last lane's share has no end, so
  // that rounding drops nothing.
  const auto first_from = [&](double place, double group, double each) {
    int64_t h = 0;
    while (h < heads && group + (static_cast<double>(h) + 0.5) * each < place) ++h;
    return h;
  };
  double group = 0;
  for (int64_t s = 0; s < sequences; ++s) {
    const double each = cost(s);
    if (each <= 0) continue;
    const int64_t head_begin = lane == 0 ? 0 : first_from(begin, group, each);
    const int64_t head_end = lane == lanes - 1 ? heads : first_from(end, group, each);
    if (head_begin < head_end) run(s, head_begin, head_end);
    group += each * static_cast<double>(heads);
  }
}

}  // namespace sluice
