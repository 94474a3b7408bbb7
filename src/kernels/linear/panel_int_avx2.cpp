#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/linear/panel_product.h"

namespace sluice {
namespace {

#include "kernels/simd/avx2.inc"

#include "kernels/linear/pairs_avx2.inc"

#include "kernels/linear/weights.inc"

#include "kernels/linear/bytes_avx2.inc"

#include "kernels/linear/integer_weights.inc"

#include "kernels/linear/panel_driver.inc"

#include "kernels/linear/blocks_avx2.inc"

#include "kernels/linear/register_blocks.inc"

#include "kernels/linear/panel_fma.inc"

}  // namespace

void PanelProductInt8Avx2(const PanelProduct& product) {
  RunPanelProduct<FmaKernel<Int8Weights>>(product);
}
void PanelProductInt4Avx2(const PanelProduct& product) {
  RunPanelProduct<FmaKernel<Int4Weights>>(product);
}

}  // namespace sluice
