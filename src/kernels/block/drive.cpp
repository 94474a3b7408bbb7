#include "kernels/block/drive.h"

#include "base/check.h"

namespace sluice {
namespace {

constexpr int64_t kRowsMax = 64;
// Rows that share a product: more rows reuse B better, fewer leave less to do row by row.
constexpr int64_t kGroup = 6;

struct Ones {
  float value[kRowsMax];
  constexpr Ones() : value() {
    for (float& x : value) x = 1;
  }
};
constexpr Ones kOnes;

}  // namespace

void CausalProduct(const BlockOps& ops, BlockProduct p) {
  DCHECK(p.rows <= kRowsMax);
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
      rest.row_scale = kOnes.value;
      ops.product(rest);
    }
  }
}

}  // namespace sluice
