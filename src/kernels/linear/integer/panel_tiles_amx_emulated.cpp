#include "kernels/linear/integer/panel_tiles_amx_emulated.h"

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace sluice {
namespace {

#include "kernels/simd/avx2.inc"

#include "kernels/linear/panel_driver.inc"

#include "kernels/linear/integer/dots_avx2.inc"

#include "kernels/linear/integer/dots_avx2_madd.inc"

#include "kernels/linear/integer/quantize_rows.inc"

#include "kernels/linear/emulated_tiles.inc"

#include "kernels/linear/integer/panel_tiles.inc"

}  // namespace

void PanelTilesInt8AmxEmulated(const PanelProduct& product) {
  TileKernel<SignedInt8>::Run(product);
}
void PanelTilesInt4AmxEmulated(const PanelProduct& product) {
  TileKernel<SignedInt4>::Run(product);
}

}  // namespace sluice
