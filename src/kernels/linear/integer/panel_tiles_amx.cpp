#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/linear/integer/integer_kernel.h"

namespace sluice {
namespace {

#include "kernels/simd/avx512.inc"

#include "kernels/linear/panel_driver.inc"

#include "kernels/linear/integer/dots_avx512_vnni.inc"

#include "kernels/linear/integer/quantize_rows.inc"

#include "kernels/linear/amx_tiles.inc"

#include "kernels/linear/integer/panel_tiles.inc"

}  // namespace

void PanelTilesInt8Amx(const PanelProduct& product) { TileKernel<SignedInt8>::Run(product); }
void PanelTilesInt4Amx(const PanelProduct& product) { TileKernel<SignedInt4>::Run(product); }

}  // namespace sluice
