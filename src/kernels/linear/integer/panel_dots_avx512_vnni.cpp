#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>
#include <utility>

#include "kernels/linear/integer/integer_kernel.h"

namespace sluice {
namespace {

#include "kernels/simd/avx512.inc"

#include "kernels/linear/panel_driver.inc"

#include "kernels/linear/integer/dots_avx512_vnni.inc"

#include "kernels/linear/integer/quantize_rows.inc"

#include "kernels/linear/integer/codes.inc"

#include "kernels/linear/integer/panel_dots.inc"

}  // namespace

float QuantizeRowAvx512Vnni(const float* x, int64_t inputs, int8_t* codes) {
  return QuantizeWholeRow(x, inputs, codes);
}
void PanelDotsInt8Avx512Vnni(const PanelProduct& product) { DotKernel<Int8Codes>::Run(product); }
void PanelDotsInt4Avx512Vnni(const PanelProduct& product) { DotKernel<Int4Codes>::Run(product); }

}  // namespace sluice
