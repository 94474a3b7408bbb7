// bf16 weight matrices, repacked once at load in the order that every product kernel reads them.
#pragma once

#include <cstdint>
#include <memory>

#include "base/status.h"
#include "tensor/arena.h"
#include "tensor/dtype.h"
#include "tensor/view.h"

namespace sluice {

/// Outputs (rows of the checkpoint's [out, in] matrix) that one panel holds.
inline constexpr int64_t kPanelOutputs = 32;
/// Inputs are padded with zeros to a multiple of this (the depth of one AMX tile pair).
inline constexpr int64_t kPanelInputs = 32;

/// A [outputs, inputs] matrix as panels of 32 outputs. A panel is [inputs / 2][32 outputs][2]: for
/// each pair of inputs the 32 outputs' two values side by side (the VNNI order), so a 64-byte line
/// is one row of an AMX B tile, and one AVX-512 register of 16 outputs. Missing outputs of the last
/// panel and padded inputs are zero. Owns its memory, or a share of it; copies are views of the
/// same memory; read-only after packing.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  /// Zeroed panels. Errors: kOutOfMemory.
  static Result<PackedMatrix> Allocate(int64_t outputs, int64_t inputs);
  /// The same inside a zeroed buffer that several matrices share, from byte `begin` (a multiple of
  /// 64) on; a layer of experts is one allocation. It must have Bytes(outputs, inputs) left.
  static PackedMatrix Inside(std::shared_ptr<const Buffer> buffer, uint64_t begin, int64_t outputs,
                           int64_t inputs);
  static uint64_t Bytes(int64_t outputs, int64_t inputs);

  int64_t outputs() const { return outputs_; }
  int64_t inputs() const { return inputs_; }
  int64_t padded_inputs() const {
    return (inputs_ + kPanelInputs - 1) / kPanelInputs * kPanelInputs;
  }
  int64_t panels() const { return (outputs_ + kPanelOutputs - 1) / kPanelOutputs; }
  int64_t panel_elements() const { return padded_inputs() * kPanelOutputs; }
  const Bf16* panel(int64_t p) const { return data_ + p * panel_elements(); }
  uint64_t bytes() const { return Bytes(outputs_, inputs_); }

  /// Writes checkpoint rows to outputs [output_begin, output_begin + rows.dim(0)). F32 rows are
  /// rounded to bf16. Safe to call concurrently for disjoint outputs.
  void Pack(int64_t output_begin, View<const Bf16, 2> rows);
  void Pack(int64_t output_begin, View<const float, 2> rows);

  /// Reads one element back (tests, and small matrices that are needed unpacked).
  float At(int64_t output, int64_t input) const;

 private:
  template <class T>
  void PackRows(int64_t output_begin, View<const T, 2> rows);

  Bf16* Element(int64_t output, int64_t input) const {
    return data_ + output / kPanelOutputs * panel_elements() + input / 2 * (2 * kPanelOutputs) +
           output % kPanelOutputs * 2 + input % 2;
  }

  int64_t outputs_ = 0;
  int64_t inputs_ = 0;
  std::shared_ptr<const Buffer> buffer_;
  Bf16* data_ = nullptr;
};

}  // namespace sluice
