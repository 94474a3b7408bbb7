// Weight matrices, repacked once at load in the order that every product kernel reads them.
#pragma once

#include <cstdint>
#include <memory>

#include "base/status.h"
#include "formats/int4/panels.h"
#include "formats/weight_format.h"
#include "tensor/arena.h"
#include "tensor/dtype.h"
#include "tensor/view.h"

namespace sluice {

/// A [outputs, inputs] matrix as panels of 32 outputs, inputs padded to a multiple of kPanelInputs.
/// The bytes of a panel:
///   bf16  [inputs / 2][32 outputs][2] elements: pairs of inputs. A 64-byte line, of 16 outputs, is
///         one row of an AMX B tile of bfloat16s (the VNNI order)
///   fp8   the same order of bytes; a line is one pair of inputs of all 32 outputs
///   int8  [inputs / 4][32 outputs][4] bytes: quads of inputs. A line, of 16 outputs, is one row of
///   an
///         AMX B tile of bytes
///   int4  [inputs / 8][32 outputs][4] bytes: byte j of an output in block b holds input 8b + j in
///   its
///         low nibble and input 8b + 4 + j in its high one: a line's low nibbles are a line of
///         int8, its high nibbles the next one
/// Behind all panels lie the scales, as [panels][scale blocks][32 outputs]: fp32, of int4 bfloat16;
/// then, if any, zero points in the same order, bytes. A file's 128 x 128 blocks are expanded to
/// outputs, so that parts of a fused matrix need not begin at a block.
/// Missing outputs of the last panel and their scales are zero bytes; padded inputs have the value
/// zero: zero bytes too, of int4 the zero code. Owns its memory, or a share of it; copies are views
/// of the same memory; read-only after packing.
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
  int64_t panel_bytes() const { return panel_bytes_; }
  /// Panel p, as Bf16s, or as bytes of the other formats.
  template <class Element>
  const Element* panel(int64_t p) const {
    return reinterpret_cast<const Element*>(data_ + p * panel_bytes());
  }
  uint64_t bytes() const { return Bytes(layout_, outputs_, inputs_); }

  /// Scales that one output has: 0 without scales, 1 for whole rows.
  int64_t scale_blocks() const;
  /// Those of panel p: [scale_blocks][32]; of fp8 and int8, or of int4.
  const float* scales(int64_t p) const {
    return reinterpret_cast<const float*>(scales_) + p * scale_blocks() * kPanelOutputs;
  }
  const Bf16* bf16_scales(int64_t p) const {
    return reinterpret_cast<const Bf16*>(scales_) + p * scale_blocks() * kPanelOutputs;
  }
  /// Panel p's [scale_blocks][32], or null: 8 is zero.
  const uint8_t* zero_points(int64_t p) const {
    return layout_.zero_points ? zero_points_ + p * scale_blocks() * kPanelOutputs : nullptr;
  }

  /// Writes checkpoint rows to outputs [output_begin, output_begin + rows.dim(0)): rounded to bf16,
  /// or quantised, with scales of their own, as QuantizeFp8Channel, QuantizeInt8 and QuantizeInt4
  /// define; an fp8 matrix needs whole-row scales for that. Finite values only, but for bf16. All
  /// the writers here are safe to call concurrently for disjoint outputs.
  void Pack(int64_t output_begin, View<const Bf16, 2> rows);
  void Pack(int64_t output_begin, View<const float, 2> rows);
  /// The same of codes: of fp8, int8 (their bits) or int4 (a byte each, at most 15).
  void PackCodes(int64_t output_begin, View<const uint8_t, 2> rows);
  /// Sets the scales of outputs [output_begin, output_begin + outputs): `scales`
  /// [ceil(outputs / outputs_per_scale), scale_blocks], row r of which is that of
  /// `outputs_per_scale` outputs, the last one perhaps of fewer (1 for "channel", 128 for block
  /// fp8). An int4 matrix rounds them to bfloat16.
  void SetScales(int64_t output_begin, int64_t outputs, View<const float, 2> scales,
                 int64_t outputs_per_scale);
  /// The same of zero points, one row an output: [outputs, scale_blocks].
  void SetZeroPoints(int64_t output_begin, View<const uint8_t, 2> zero_points);

  /// One element, dequantised and rounded to fp32 (tests, and small matrices that are needed
  /// unpacked), or exactly.
  float At(int64_t output, int64_t input) const {
    return static_cast<float>(ExactAt(output, input));
  }
  double ExactAt(int64_t output, int64_t input) const {
    return double{Unscaled(output, input)} * Scale(output, input);
  }
  /// The stored element as it is, less its zero point, and its scale (1 without scales).
  float Unscaled(int64_t output, int64_t input) const;
  float Scale(int64_t output, int64_t input) const;

 private:
  template <class T>
  void PackAny(int64_t output_begin, View<const T, 2> rows);
  // Where the scale of an output's block is, counted in scales.
  int64_t ScaleAt(int64_t output, int64_t block) const {
    return (output / kPanelOutputs * scale_blocks() + block) * kPanelOutputs +
           output % kPanelOutputs;
  }
  Int4Panels int4_panels() const;

  WeightLayout layout_;
  int64_t outputs_ = 0;
  int64_t inputs_ = 0;
  int64_t panel_bytes_ = 0;
  std::shared_ptr<const Buffer> buffer_;
  std::byte* data_ = nullptr;
  std::byte* scales_ = nullptr;
  uint8_t* zero_points_ = nullptr;
};

}  // namespace sluice
