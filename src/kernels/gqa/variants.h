// What the files of this folder share; users include gqa.h.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/block/block_ops.h"
#include "kernels/gqa/gqa.h"

namespace sluice {

void GqaReference(const GqaArgs& args, Exec& exec);

/// Attention page by page with the small products of `ops`.
void GqaOverPages(const GqaArgs& args, Exec& exec, const BlockOps& ops);

/// What scores of a query at `position` are multiplied by, after the cap.
inline double Temperature(int64_t length, int64_t position) {
  if (length <= 0 || position <= length) return 1;
  return std::log2(static_cast<double>(position)) / std::log2(static_cast<double>(length));
}

}  // namespace sluice
