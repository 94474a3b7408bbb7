// Weight matrices, repacked once at load in the order that every product kernel reads them.
#pragma once

#include <cstdint>
#include <memory>

#include "base/status.h"
#include "formats/weight_format.h"
#include "tensor/arena.h"
#include "tensor/dtype.h"
#include "tensor/view.h"

namespace sluice {

/// A [outputs, inputs] matrix as panels of 32 outputs. A panel is [inputs / 2][32 outputs][2]
/// elements of the format: for each pair of inputs the 32 outputs' two values side by side (the
/// VNNI order). Of bf16, a 64-byte line is one row of an AMX B tile and one AVX-512 register of 16
/// outputs; of fp8, a line is one pair of inputs. Scales, fp32, lie behind the panels as [panels]
/// [scale blocks][32 outputs]: a file's 128 x 128 blocks are expanded to outputs, so that parts of
/// a fused matrix need not begin at a block. Missing outputs of the last panel, their scales and
/// padded inputs are zero. Owns its memory, or a share of it; copies are views of the same memory;
/// read-only after packing.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  /// Zeroed panels and scales. Errors: kOutOfMemory.
  static Result<PackedMatrix> Allocate(WeightLayout layout, int64_t outputs, int64_t inputs);
  /// The same inside a zeroed buffer that several matrices share, from byte `begin` (a multiple of
  /// 64) on; a layer of experts is one allocation. It must have Bytes(layout, outputs, inputs)
  /// left.
  static PackedMatrix Inside(std::shared_ptr<const Buffer> buffer, uint64_t begin,
                             WeightLayout layout, int64_t outputs, int64_t inputs);
  /// Of panels and scales; a multiple of 64.
  static uint64_t Bytes(WeightLayout layout, int64_t outputs, int64_t inputs);

  /// bf16.
  static Result<PackedMatrix> Allocate(int64_t outputs, int64_t inputs) {
    return Allocate(WeightLayout(), outputs, inputs);
  }
  static uint64_t Bytes(int64_t outputs, int64_t inputs) {
    return Bytes(WeightLayout(), outputs, inputs);
  }

  const WeightLayout& layout() const { return layout_; }
  WeightFormat format() const { return layout_.format; }
  int64_t outputs() const { return outputs_; }
  int64_t inputs() const { return inputs_; }
  int64_t padded_inputs() const {
    return (inputs_ + kPanelInputs - 1) / kPanelInputs * kPanelInputs;
  }
  int64_t panels() const { return (outputs_ + kPanelOutputs - 1) / kPanelOutputs; }
  int64_t panel_elements() const { return padded_inputs() * kPanelOutputs; }
  /// Panel p, of Element = Bf16 or uint8_t (the format's codes).
  template <class Element>
  const Element* panel(int64_t p) const {
    return reinterpret_cast<const Element*>(data_) + p * panel_elements();
  }
  uint64_t bytes() const { return Bytes(layout_, outputs_, inputs_); }

  /// Scales that one output has: 0 without scales, 1 for whole rows.
  int64_t scale_blocks() const;
  /// Those of panel p: [scale_blocks][32].
  const float* scales(int64_t p) const { return scales_ + p * scale_blocks() * kPanelOutputs; }

  /// Writes checkpoint rows to outputs [output_begin, output_begin + rows.dim(0)) of a bf16 matrix.
  /// F32 rows are rounded. These three are safe to call concurrently for disjoint outputs.
  void Pack(int64_t output_begin, View<const Bf16, 2> rows);
  void Pack(int64_t output_begin, View<const float, 2> rows);
  /// The same of an fp8 matrix.
  void PackCodes(int64_t output_begin, View<const uint8_t, 2> rows);
  /// Sets the scales of outputs [output_begin, output_begin + outputs): `scales`
  /// [ceil(outputs / outputs_per_scale), scale_blocks], row r of which is that of
  /// `outputs_per_scale` outputs, the last one perhaps of fewer (1 for "channel", 128 for block
  /// fp8).
  void SetScales(int64_t output_begin, int64_t outputs, View<const float, 2> scales,
                 int64_t outputs_per_scale);

  /// One element, dequantised and rounded to fp32 (tests, and small matrices that are needed
  /// unpacked), or exactly.
  float At(int64_t output, int64_t input) const {
    return static_cast<float>(ExactAt(output, input));
  }
  double ExactAt(int64_t output, int64_t input) const {
    return double{Unscaled(output, input)} * Scale(output, input);
  }
  /// The stored element as it is, and its scale (1 without scales).
  float Unscaled(int64_t output, int64_t input) const;
  float Scale(int64_t output, int64_t input) const;

 private:
  WeightLayout layout_;
  int64_t outputs_ = 0;
  int64_t inputs_ = 0;
  std::shared_ptr<const Buffer> buffer_;
  std::byte* data_ = nullptr;
  float* scales_ = nullptr;
};

}  // namespace sluice
