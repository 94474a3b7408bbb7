// What the files of this folder share; users include gqa.h.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/block/block_ops.h"
#include "kernels/gqa/gqa.h"
#include "kernels/gqa/tiles.h"

namespace sluice {

void GqaReference(const GqaArgs& args, Exec& exec);

/// What scores may be made of instead of fp32 products, where queries and pages are bfloat16s.
struct GqaNarrow {
  const TileOps* tiles = nullptr;  // pages that a row sees whole go through them; the row's last
                                   // page does not, unless the row is the page's last
  void (*scores)(const BlockNarrowProduct&) = nullptr;  // all scores (not with tiles)
};

/// Attention page by page with the small products of `ops`.
void GqaOverPages(const GqaArgs& args, Exec& exec, const BlockOps& ops,
                  const GqaNarrow& narrow = {});

/// Whether a layer's queries and pages are bfloat16s, in heads of a multiple of `width`.
inline bool SuitsNarrow(const GqaArgs& args, int64_t width) {
  return args.bf16_inputs && args.cache.dtype == DType::kBf16 && args.shape.head_dim % width == 0;
}
/// Whether tiles can take a layer.
inline bool SuitsTiles(const GqaArgs& args) { return SuitsNarrow(args, 32); }

/// What scores of a query at `position` are multiplied by, after the cap.
inline double Temperature(int64_t length, int64_t position) {
  if (length <= 0 || position <= length) return 1;
  return std::log2(static_cast<double>(position)) / std::log2(static_cast<double>(length));
}

}  // namespace sluice
