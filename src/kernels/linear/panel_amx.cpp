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

#include "kernels/linear/fp8_avx512.inc"

#include "kernels/linear/fp8_nibbles.inc"

#include "kernels/linear/bytes_avx512.inc"

#include "kernels/linear/integer_weights.inc"

#include "kernels/linear/panel_driver.inc"

#include "kernels/linear/amx_tiles.inc"

#include "kernels/linear/panel_amx.inc"

}  // namespace

void PanelProductAmx(const PanelProduct& product) {
  RunPanelProduct<AmxKernel<Bf16Weights>>(product);
}
void PanelProductFp8Amx(const PanelProduct& product) {
  RunPanelProduct<AmxKernel<Fp8Weights>>(product);
}
void PanelProductInt8Amx(const PanelProduct& product) {
  RunPanelProduct<AmxKernel<Int8Weights>>(product);
}
void PanelProductInt4Amx(const PanelProduct& product) {
  RunPanelProduct<AmxKernel<Int4Weights>>(product);
}

}  // namespace sluice
