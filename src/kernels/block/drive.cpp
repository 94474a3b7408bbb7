#include "kernels/block/drive.h"

#include <cstddef>

namespace sluice {
namespace {

// Rows that share a product: more rows reuse B better, fewer leave less to do row by row.
constexpr int64_t kGroup = 6;

constexpr float kOne = 1;

}  // namespace

const BlockOps& SelectBlockOps(const Machine& machine) {
  return machine.Has(kAvx512) ? kBlockOpsAvx512 : kBlockOpsAvx2;
}

void CausalProduct(const BlockOps& ops, BlockProduct p) {
  for (int64_t begin = 0; begin < p.rows; begin += kGroup) {
    BlockProduct group = p;
    group.rows = std::min(kGroup, p.rows - begin);
    group.depth = p.depth + begin;
    group.a += begin * p.a_row;
    group.c += begin * p.c_row;
    if (p.row_scale) group.row_scale += begin;
    ops.product(group);
    for (int64_t r = 1; r < group.rows; ++r) {  // what is left of each row
      BlockProduct rest = group;
      rest.rows = 1;
      rest.depth = r;
      rest.a += r * p.a_row + group.depth * p.a_depth;
      rest.b = static_cast<const std::byte*>(p.b) + group.depth * p.b_depth * (p.b_is_bf16 ? 2 : 4);
      rest.c += r * p.c_row;
      rest.row_scale = &kOne;
      ops.product(rest);
    }
  }
}

}  // namespace sluice
