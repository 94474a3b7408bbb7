#include "kernels/linear/panel_amx_emulated.h"

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

namespace sluice {
namespace {

#include "kernels/simd/avx2.inc"

#include "kernels/linear/pairs_avx2.inc"

#include "kernels/linear/weights.inc"

#include "kernels/linear/fp8_avx2.inc"

#include "kernels/linear/fp8_nibbles.inc"

#include "kernels/linear/bytes_avx2.inc"

#include "kernels/linear/integer_weights.inc"

#include "kernels/linear/panel_driver.inc"

#include "kernels/linear/emulated_tiles.inc"

#include "kernels/linear/panel_amx.inc"

}  // namespace

void PanelProductAmxEmulated(const PanelProduct& product) {
  RunPanelProduct<AmxKernel<Bf16Weights>>(product);
}
void PanelProductFp8AmxEmulated(const PanelProduct& product) {
  RunPanelProduct<AmxKernel<Fp8Weights>>(product);
}
void PanelProductInt8AmxEmulated(const PanelProduct& product) {
  RunPanelProduct<AmxKernel<Int8Weights>>(product);
}
void PanelProductInt4AmxEmulated(const PanelProduct& product) {
  RunPanelProduct<AmxKernel<Int4Weights>>(product);
}

}  // namespace sluice
