// What the files of this folder share; users include gqa.h.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/block/block_ops.h"
#include "kernels/gqa/gqa.h"
#include "kernels/gqa/tiles.h"

namespace sluice {

void GqaReference(const GqaArgs& args, Exec& exec);

/// Attention page by page with the small products of `ops`. With `tiles`, pages that a row sees
/// whole go through them; the row's last page does not, unless the row is the page's last.
void GqaOverPages(const GqaArgs& args, Exec& exec, const BlockOps& ops,
                  const TileOps* tiles = nullptr);

/// Whether tiles can take a layer: bfloat16 queries and pages, heads of a multiple of 32.
inline bool SuitsTiles(const GqaArgs& args) {
  return args.bf16_inputs && args.cache.dtype == DType::kBf16 && args.shape.head_dim % 32 == 0;
}

/// What scores of a query at `position` are multiplied by, after the cap.
inline double Temperature(int64_t length, int64_t position) {
  if (length <= 0 || position <= length) return 1;
  return std::log2(static_cast<double>(position)) / std::log2(static_cast<double>(length));
}

}  // namespace sluice
