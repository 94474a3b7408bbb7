#include "kernels/linear/panel_product.h"

namespace sluice {

// clang-format off
constexpr PanelKernel kPanelKernels[] = {
    // name    needs     bf16_inputs  run
    {"amx",    kAmxBf16, true,        PanelProductAmx},
    {"avx512", kAvx512,  false,       PanelProductAvx512},
    {"avx2",   kAvx2,    false,       PanelProductAvx2},
};
// clang-format on

std::span<const PanelKernel> PanelKernels() { return kPanelKernels; }

const PanelKernel& SelectPanelKernel(const Machine& machine, bool bf16_inputs) {
  for (const PanelKernel& kernel : kPanelKernels)
    if (machine.Has(kernel.needs) && (bf16_inputs || !kernel.bf16_inputs)) return kernel;
  return kPanelKernels[std::size(kPanelKernels) - 1];
}

std::byte* LaneScratch() {
  thread_local Buffer scratch;
  if (!scratch.data()) {
    Result<Buffer> buffer = Buffer::Allocate(kLaneScratchBytes, "lane scratch");
    CHECK(buffer.ok());  // 2 MiB of address space, once per thread
    scratch = std::move(*buffer);
  }
  return scratch.data();
}

}  // namespace sluice
