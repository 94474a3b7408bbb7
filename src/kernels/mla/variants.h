// What the files of this folder share; users include mla.h.
#pragma once

#include "kernels/block/block_ops.h"
#include "kernels/linear/panel_product.h"
#include "kernels/mla/mla.h"

namespace sluice {

void MlaReference(const MlaArgs& args, Exec& exec);

/// Attention page by page: `panel` multiplies with the weights, `narrow_dots` the absorbed queries
/// with the latents, where there is one and both hold bfloat16s, and `ops` is everything else.
void MlaOverPages(const MlaArgs& args, Exec& exec, const BlockOps& ops,
                  void (*panel)(const PanelProduct&),
                  void (*narrow_dots)(const BlockNarrowDots&) = nullptr);

}  // namespace sluice
