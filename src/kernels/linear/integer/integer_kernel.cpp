#include "kernels/linear/integer/integer_kernel.h"

namespace sluice {

// clang-format off
constexpr IntegerKernel kIntegerKernels[] = {
    // name          needs                   bf16     fp8      int8                     int4
    {"avx512_vnni",  kAvx512 | kAvx512Vnni,  {nullptr, nullptr, PanelDotsInt8Avx512Vnni, PanelDotsInt4Avx512Vnni}},
};
// clang-format on

std::span<const IntegerKernel> IntegerKernels() { return kIntegerKernels; }

const IntegerKernel* SelectIntegerKernel(const Machine& machine, ActivationQuant quant) {
  if (quant == ActivationQuant::kNone) return nullptr;
  for (const IntegerKernel& kernel : kIntegerKernels)
    if (machine.Has(kernel.needs)) return &kernel;
  return nullptr;
}

}  // namespace sluice
