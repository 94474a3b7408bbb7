#include "kernels/linear/panel_product.h"

#include "kernels/linear/integer/integer_kernel.h"

namespace sluice {

// clang-format off
constexpr PanelKernel kPanelKernels[] = {
    // name         needs                  bf16_inputs
    //  bf16                     fp8                         int8                         int4
    {"amx",         kAmxBf16,              true,
       {PanelProductAmx,         PanelProductFp8Amx,         PanelProductInt8Amx,         PanelProductInt4Amx}},
    {"avx512_bf16", kDotProducts,          true,
       {PanelProductAvx512Bf16,  PanelProductFp8Avx512Bf16,  PanelProductInt8Avx512Bf16,  PanelProductInt4Avx512Bf16}},
    {"avx512_vbmi", kAvx512 | kAvx512Vbmi, false,
       {PanelProductAvx512,      PanelProductFp8Avx512Vbmi,  PanelProductInt8Avx512,      PanelProductInt4Avx512}},
    {"avx512",      kAvx512,               false,
       {PanelProductAvx512,      PanelProductFp8Avx512,      PanelProductInt8Avx512,      PanelProductInt4Avx512}},
    {"avx2",        kAvx2,                 false,
       {PanelProductAvx2,        PanelProductFp8Avx2,        PanelProductInt8Avx2,        PanelProductInt4Avx2}},
};
// clang-format on

namespace {

const BlockSizes* SizesFor(const char* kernel, ActivationQuant activations,
                           const PanelProduct& product) {
  if (const BlockSizes* sizes = ForcedBlockSizes::Now()) return sizes;
  return FindBlockSizes(MeasuredBlockSizes(), kernel, product.weight->format(), activations,
                        product.lanes, product.rows, product.weight->inputs());
}

}  // namespace

void PanelKernel::Run(const PanelProduct& product) const {
  const auto format = static_cast<int>(product.weight->format());
  const bool quantised = product.integers && product.integers->Takes(*product.weight);
  const auto run = quantised ? product.integers->by_format[format] : by_format[format];
  const BlockSizes* const sizes =
      quantised ? SizesFor(product.integers->name, ActivationQuant::kInt8, product)
                : SizesFor(name, ActivationQuant::kNone, product);
  if (!sizes) return run(product);
  PanelProduct sized = product;
  sized.sizes = *sizes;
  sized.prefetch = product.prefetch && sizes->prefetch;
  run(sized);
}

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
    CHECK(buffer.ok());  // little, once per thread
    scratch = std::move(*buffer);
  }
  return scratch.data();
}

}  // namespace sluice
