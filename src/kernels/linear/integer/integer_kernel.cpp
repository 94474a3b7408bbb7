#include "kernels/linear/integer/integer_kernel.h"

#include <iterator>

namespace sluice {

// clang-format off
constexpr IntegerKernel kIntegerKernels[] = {
    // name          needs                              quantize
    //  bf16     fp8      int8                     int4
    {"amx",          kAmxInt8 | kAvx512 | kAvx512Vnni,  QuantizeRowAvx512Vnni,
       {nullptr, nullptr, PanelTilesInt8Amx,       PanelTilesInt4Amx}},
    {"avx512_vnni",  kAvx512 | kAvx512Vnni,             QuantizeRowAvx512Vnni,
       {nullptr, nullptr, PanelDotsInt8Avx512Vnni, PanelDotsInt4Avx512Vnni}},
    {"avx_vnni",     kAvx2 | kAvxVnni,                  QuantizeRowAvxVnni,
       {nullptr, nullptr, PanelDotsInt8AvxVnni,    PanelDotsInt4AvxVnni}},
    {"avx2",         kAvx2,                             QuantizeRowAvx2,
       {nullptr, nullptr, PanelDotsInt8Avx2,       PanelDotsInt4Avx2}},
};
// clang-format on

std::span<const IntegerKernel> IntegerKernels() { return kIntegerKernels; }

const IntegerKernel* SelectIntegerKernel(const Machine& machine, ActivationQuant quant) {
  if (quant == ActivationQuant::kNone) return nullptr;
  for (const IntegerKernel& kernel : kIntegerKernels)
    if (machine.Has(kernel.needs)) return &kernel;
  return std::end(kIntegerKernels) - 1;
}

}  // namespace sluice
