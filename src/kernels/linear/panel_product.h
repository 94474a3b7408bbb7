// The micro-kernel layer under every product with packed weights: rows times a range of
// panels, on the calling thread. Dense products and experts split their work into such calls.
#pragma once

#include <cstdint>
#include <span>

#include "base/trace.h"
#include "formats/packed_matrix.h"
#include "kernels/linear/activation.h"
#include "kernels/linear/block_sizes.h"
#include "tensor/exec.h"

namespace sluice {

struct IntegerKernel;  // integer/integer_kernel.h

/// What is written for the 32 sums s of a panel and a row.
enum class PanelEpilogue {
  kStore,  // y[o] = round(s[o] + bias[o])
  kGated,  // panels are 16 gate | 16 up: y[i] = round(round(act(round(gate[i]))) * round(up[i]))
  kAccumulate,  // y[o - first output] = fma(row weight, round(s[o]), y[o - first output])
};

/// Rows that were quantised ahead of the products that read them (IntegerKernel::quantize).
struct QuantizedRows {
  // Row r's begin at codes + r * stride, with zeros from inputs to padded_inputs.
  const int8_t* codes = nullptr;
  int64_t stride = 0;
  const float* scales = nullptr;  // [rows]
};

/// Sums are fp32 and their order depends on the kernel and on the matrix only: a row's bits are the
/// same whatever the other rows, their number and the range of panels.
struct PanelProduct {
  const float* x = nullptr;        // row r starts at x + (row_ids ? row_ids[r] : r) * x_stride
  const Bf16* narrow_x = nullptr;  // instead of x, for kernels with bf16_inputs: the same values
  int64_t x_stride;
  QuantizedRows quantized = {};  // instead of x where `integers` takes the weights: the same rows
  const int32_t* row_ids = nullptr;  // [rows] or none: gathers rows
  int64_t rows;
  const PackedMatrix* weight;  // its inputs() are the length of a row of x
  int64_t panel_begin, panel_end;
  PanelEpilogue epilogue = PanelEpilogue::kStore;
  Activation activation = Activation::kSilu;  // act of kGated
  const float* bias = nullptr;                // [outputs] or none; kStore only
  Rounding rounding = Rounding::kNone;
  // Multiplies codes of the rows where the weights are integers; none: takes them as they are.
  const IntegerKernel* integers = nullptr;
  int lanes = 1;          // that share the product, or the layer it belongs to
  BlockSizes sizes = {};  // of formula, unless PanelKernel::Run finds better ones
  bool prefetch = true;   // fetch a panel's weights while the one before it is multiplied
  // With prefetch: the panels that this thread multiplies after these, or none. Their first lines,
  // as many as of a panel of this product at most, are fetched while its last panel is multiplied.
  const std::byte* next = nullptr;
  // Inputs [input_begin, input_end) alone (-1: to the last one); input_begin is a multiple of
  // kScaleInputsMax. What does not end the row leaves its unfinished sums in `partial`, and what
  // does not begin it goes on from there: a sum stays one chain, so its bits are those of one call.
  int64_t input_begin = 0, input_end = -1;
  float* partial = nullptr;  // row r's starts at partial + r * partial_stride, with panel_begin
  int64_t partial_stride = 0;
  // kAccumulate only: y is [rows named by y_rows][(panel_end - panel_begin) * 32], whole panels.
  const float* row_weights = nullptr;  // [rows]
  const int32_t* y_rows = nullptr;     // [rows] row of y of each row of x
  float* y = nullptr;                  // row r starts at y + r * y_stride, output o (or i) at its o
  Bf16* narrow_y = nullptr;            // instead of y, kGated and Rounding::kBf16 only
  int64_t y_stride;
};

/// One instruction set's kernel. It uses no memory but a fixed scratch of the calling thread.
struct PanelKernel {
  const char* name;
  uint32_t needs;                                          // Feature bits
  bool bf16_inputs;                                        // multiplies bfloat16 inputs only
  void (*by_format[kWeightFormats])(const PanelProduct&);  // in the order of WeightFormat

  /// By this kernel, or by product.integers where that one takes the weights; with the block sizes
  /// that were measured for it.
  void Run(const PanelProduct& product) const;
};

/// Every kernel, best first; the last one needs nothing.
std::span<const PanelKernel> PanelKernels();

/// The best one for the machine; `bf16_inputs`: x holds bfloat16 values only.
const PanelKernel& SelectPanelKernel(const Machine& machine, bool bf16_inputs);

/// The calling thread's fixed scratch memory for one panel product; taken from the system when the
/// thread first asks, by that thread, so that it lies in its own memory domain.
inline constexpr uint64_t kLaneScratchBytes = (uint64_t{2} << 20) + (uint64_t{128} << 10);
std::byte* LaneScratch();

// bf16 weights.
void PanelProductAvx2(const PanelProduct& product);
void PanelProductAvx512(const PanelProduct& product);
void PanelProductAvx512Bf16(const PanelProduct& product);
void PanelProductAmx(const PanelProduct& product);
// fp8 weights.
void PanelProductFp8Avx2(const PanelProduct& product);
void PanelProductFp8Avx512(const PanelProduct& product);
void PanelProductFp8Avx512Vbmi(const PanelProduct& product);
void PanelProductFp8Avx512Bf16(const PanelProduct& product);
void PanelProductFp8Amx(const PanelProduct& product);
// int8 and int4 weights.
void PanelProductInt8Avx2(const PanelProduct& product);
void PanelProductInt8Avx512(const PanelProduct& product);
void PanelProductInt8Avx512Bf16(const PanelProduct& product);
void PanelProductInt8Amx(const PanelProduct& product);
void PanelProductInt4Avx2(const PanelProduct& product);
void PanelProductInt4Avx512(const PanelProduct& product);
void PanelProductInt4Avx512Bf16(const PanelProduct& product);
void PanelProductInt4Amx(const PanelProduct& product);

}  // namespace sluice
