#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "kernels/linear/panel_product.h"

namespace sluice {
namespace {

#include "kernels/simd/avx512.inc"

#include "kernels/linear/pairs_avx512.inc"

#include "kernels/linear/weights.inc"

#include "kernels/linear/bytes_avx512.inc"

#include "kernels/linear/integer_weights.inc"

#include "kernels/linear/panel_driver.inc"

#include "kernels/linear/blocks_avx512.inc"

#include "kernels/linear/register_blocks.inc"

#include "kernels/linear/panel_fma.inc"

}  // namespace

void PanelProductInt8Avx512(const PanelProduct& product) {
  RunPanelProduct<FmaKernel<Int8Weights>>(product);
}
void PanelProductInt4Avx512(const PanelProduct& product) {
  RunPanelProduct<FmaKernel<Int4Weights>>(product);
}

}  // namespace sluice
