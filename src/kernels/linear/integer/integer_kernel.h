// Products of quantised rows with integer weights: the kernels, and how one is chosen.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/linear/activation_quant.h"
#include "kernels/linear/panel_product.h"

namespace sluice {

/// One instruction set's kernel for ActivationQuant::kInt8. With the row's codes q and scale s:
///   y = s * sum_g scale[o, g] * float( sum over the inputs i of group g of q[i] * w[o, i] )
/// where w are int8 codes, or int4 codes less their zero point; the inner sum is exact, groups are
/// added in order by fp32 FMAs from zero. The bits are the same for every kernel, whatever the
/// rows, panels and lanes of a call.
struct IntegerKernel {
  const char* name;
  uint32_t needs;  // Feature bits
  // One row to `inputs` codes and zeros up to a multiple of kPanelInputs; returns the row's scale.
  // The codes may take the place of the row's first values.
  float (*quantize)(const float* x, int64_t inputs, int8_t* codes);
  void (*by_format[kWeightFormats])(const PanelProduct&);  // null where rows stay as they are

  /// Whether products with `weight` multiply codes of the rows.
  bool Takes(const PackedMatrix& weight) const {
    return by_format[static_cast<int>(weight.format())] && weight.inputs() <= kQuantizedInputsMax;
  }
};

/// Every kernel, best first; the last one runs everywhere.
std::span<const IntegerKernel> IntegerKernels();

/// The best one for the machine, or null: `quant` is kNone.
const IntegerKernel* SelectIntegerKernel(const Machine& machine, ActivationQuant quant);

float QuantizeRowAvx512Vnni(const float* x, int64_t inputs, int8_t* codes);
float QuantizeRowAvxVnni(const float* x, int64_t inputs, int8_t* codes);
float QuantizeRowAvx2(const float* x, int64_t inputs, int8_t* codes);

void PanelDotsInt8Avx512Vnni(const PanelProduct& product);
void PanelDotsInt4Avx512Vnni(const PanelProduct& product);
void PanelDotsInt8AvxVnni(const PanelProduct& product);
void PanelDotsInt4AvxVnni(const PanelProduct& product);
void PanelDotsInt8Avx2(const PanelProduct& product);
void PanelDotsInt4Avx2(const PanelProduct& product);
void PanelTilesInt8Amx(const PanelProduct& product);
void PanelTilesInt4Amx(const PanelProduct& product);

}  // namespace sluice
