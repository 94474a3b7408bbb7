#include "formats/bf16/packed_bf16.h"

namespace sluice {

uint64_t PackedBf16::Bytes(int64_t outputs, int64_t inputs) {
  const auto panels = static_cast<uint64_t>((outputs + kPanelOutputs - 1) / kPanelOutputs);
  const auto padded = static_cast<uint64_t>((inputs + kPanelInputs - 1) / kPanelInputs * kPanelInputs);
  return panels * kPanelOutputs * padded * sizeof(Bf16);
}

Result<PackedBf16> PackedBf16::Allocate(int64_t outputs, int64_t inputs) {
  CHECK(outputs > 0 && inputs > 0);
  TRY(Buffer buffer, Buffer::Allocate(Bytes(outputs, inputs), "packed weights"));
  return Inside(std::make_shared<const Buffer>(std::move(buffer)), 0, outputs, inputs);
}

PackedBf16 PackedBf16::Inside(std::shared_ptr<const Buffer> buffer, uint64_t begin, int64_t outputs,
                              int64_t inputs) {
  CHECK(outputs > 0 && inputs > 0 && begin % 64 == 0);
  CHECK(begin <= buffer->size() && Bytes(outputs, inputs) <= buffer->size() - begin);
  PackedBf16 packed;
  packed.outputs_ = outputs;
  packed.inputs_ = inputs;
  packed.data_ = reinterpret_cast<Bf16*>(buffer->data() + begin);
  packed.buffer_ = std::move(buffer);
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
