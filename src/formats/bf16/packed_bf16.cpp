#include "formats/bf16/packed_bf16.h"

namespace sluice {

Result<PackedBf16> PackedBf16::Allocate(int64_t outputs, int64_t inputs) {
  CHECK(outputs > 0 && inputs > 0);
  PackedBf16 packed;
  packed.outputs_ = outputs;
  packed.inputs_ = inputs;
  TRY(packed.buffer_, Buffer::Allocate(packed.bytes(), "packed weights"));
  packed.data_ = reinterpret_cast<Bf16*>(packed.buffer_.data());
  return packed;
}

void PackedBf16::Pack(int64_t output_begin, View<const Bf16, 2> rows) {
  CHECK(rows.dim(1) == inputs_ && output_begin >= 0 && output_begin + rows.dim(0) <= outputs_);
  for (int64_t r = 0; r < rows.dim(0); ++r) {
    const Bf16* from = rows.row(r);
    Bf16* to = Element(output_begin + r, 0);
    for (int64_t i = 0; i < inputs_; ++i) to[i / 2 * (2 * kPanelOutputs) + i % 2] = from[i];
  }
}

void PackedBf16::Pack(int64_t output_begin, View<const float, 2> rows) {
  CHECK(rows.dim(1) == inputs_ && output_begin >= 0 && output_begin + rows.dim(0) <= outputs_);
  for (int64_t r = 0; r < rows.dim(0); ++r) {
    const float* from = rows.row(r);
    Bf16* to = Element(output_begin + r, 0);
    for (int64_t i = 0; i < inputs_; ++i) to[i / 2 * (2 * kPanelOutputs) + i % 2] = ToBf16(from[i]);
  }
}

float PackedBf16::At(int64_t output, int64_t input) const { return ToFloat(*Element(output, input)); }

}  // namespace sluice
