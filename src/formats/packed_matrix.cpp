#include "formats/packed_matrix.h"

#include "formats/bf16/pack.h"
#include "formats/fp8/e4m3.h"
#include "formats/fp8/pack.h"
#include "formats/panel_pieces.h"

namespace sluice {
namespace {

// What the owner of the memory must know of a format.
struct FormatRow {
  WeightFormat format;
  uint64_t element_bytes;
  bool scaled;
  float (*at)(const std::byte* panels, int64_t element);
};

float Bf16At(const std::byte* panels, int64_t element) {
  return ToFloat(reinterpret_cast<const Bf16*>(panels)[element]);
}
float Fp8At(const std::byte* panels, int64_t element) {
  return E4M3ToFloat(static_cast<uint8_t>(panels[element]));
}

// clang-format off
constexpr FormatRow kFormats[kWeightFormats] = {
    // format                  bytes  scaled  at
    {WeightFormat::kBf16,      2,     false,  Bf16At},
    {WeightFormat::kFp8E4M3,   1,     true,   Fp8At},
};
// clang-format on

const FormatRow& RowOf(WeightFormat format) { return kFormats[static_cast<int>(format)]; }

int64_t ScaleBlocks(WeightLayout layout, int64_t inputs) {
  if (!RowOf(layout.format).scaled) return 0;
  return layout.scale_inputs == 0 ? 1 : (inputs + layout.scale_inputs - 1) / layout.scale_inputs;
}

uint64_t PanelBytes(WeightLayout layout, int64_t outputs, int64_t inputs) {
  const auto panels = static_cast<uint64_t>((outputs + kPanelOutputs - 1) / kPanelOutputs);
  const auto padded =
      static_cast<uint64_t>((inputs + kPanelInputs - 1) / kPanelInputs * kPanelInputs);
  return panels * kPanelOutputs * padded * RowOf(layout.format).element_bytes;
}

uint64_t ScaleBytes(WeightLayout layout, int64_t outputs, int64_t inputs) {
  const auto panels = static_cast<uint64_t>((outputs + kPanelOutputs - 1) / kPanelOutputs);
  return panels * static_cast<uint64_t>(ScaleBlocks(layout, inputs)) * kPanelOutputs *
         sizeof(float);
}

bool IsValid(WeightLayout layout) {
  const int64_t n = layout.scale_inputs;
  if (n == 0) return true;
  return RowOf(layout.format).scaled && n > 0 && n % kPanelInputs == 0 && kScaleInputsMax % n == 0;
}

}  // namespace

uint64_t PackedMatrix::Bytes(WeightLayout layout, int64_t outputs, int64_t inputs) {
  return PanelBytes(layout, outputs, inputs) + ScaleBytes(layout, outputs, inputs);
}

Result<PackedMatrix> PackedMatrix::Allocate(WeightLayout layout, int64_t outputs, int64_t inputs) {
  CHECK(outputs > 0 && inputs > 0);
  TRY(Buffer buffer, Buffer::Allocate(Bytes(layout, outputs, inputs), "packed weights"));
  return Inside(std::make_shared<const Buffer>(std::move(buffer)), 0, layout, outputs, inputs);
}

PackedMatrix PackedMatrix::Inside(std::shared_ptr<const Buffer> buffer, uint64_t begin,
                                  WeightLayout layout, int64_t outputs, int64_t inputs) {
  CHECK(outputs > 0 && inputs > 0 && begin % 64 == 0 && IsValid(layout));
  CHECK(begin <= buffer->size() && Bytes(layout, outputs, inputs) <= buffer->size() - begin);
  PackedMatrix packed;
  packed.layout_ = layout;
  packed.outputs_ = outputs;
  packed.inputs_ = inputs;
  packed.data_ = buffer->data() + begin;
  packed.scales_ = reinterpret_cast<float*>(packed.data_ + PanelBytes(layout, outputs, inputs));
  packed.buffer_ = std::move(buffer);
  return packed;
}

int64_t PackedMatrix::scale_blocks() const { return ScaleBlocks(layout_, inputs_); }

void PackedMatrix::Pack(int64_t output_begin, View<const Bf16, 2> rows) {
  CHECK(format() == WeightFormat::kBf16 && rows.dim(1) == inputs_);
  CHECK(output_begin >= 0 && output_begin + rows.dim(0) <= outputs_);
  PackBf16(reinterpret_cast<Bf16*>(data_), panel_elements(), output_begin, rows);
}

void PackedMatrix::Pack(int64_t output_begin, View<const float, 2> rows) {
  CHECK(format() == WeightFormat::kBf16 && rows.dim(1) == inputs_);
  CHECK(output_begin >= 0 && output_begin + rows.dim(0) <= outputs_);
  PackBf16(reinterpret_cast<Bf16*>(data_), panel_elements(), output_begin, rows);
}

void PackedMatrix::PackCodes(int64_t output_begin, View<const uint8_t, 2> rows) {
  CHECK(format() == WeightFormat::kFp8E4M3 && rows.dim(1) == inputs_);
  CHECK(output_begin >= 0 && output_begin + rows.dim(0) <= outputs_);
  PackFp8(reinterpret_cast<uint8_t*>(data_), panel_elements(), output_begin, rows);
}

void PackedMatrix::SetScales(int64_t output_begin, int64_t outputs, View<const float, 2> scales,
                             int64_t outputs_per_scale) {
  const int64_t blocks = scale_blocks();
  CHECK(blocks > 0 && output_begin >= 0 && output_begin + outputs <= outputs_);
  CHECK(outputs_per_scale > 0 && scales.dim(1) == blocks);
  CHECK_EQ(scales.dim(0), (outputs + outputs_per_scale - 1) / outputs_per_scale);
  for (int64_t o = 0; o < outputs; ++o) {
    const int64_t output = output_begin + o;
    float* to = scales_ + output / kPanelOutputs * blocks * kPanelOutputs + output % kPanelOutputs;
    for (int64_t b = 0; b < blocks; ++b) to[b * kPanelOutputs] = scales(o / outputs_per_scale, b);
  }
}

float PackedMatrix::Unscaled(int64_t output, int64_t input) const {
  return RowOf(layout_.format).at(data_, PanelElement(panel_elements(), output, input));
}

float PackedMatrix::Scale(int64_t output, int64_t input) const {
  if (scale_blocks() == 0) return 1;
  const int64_t block = layout_.scale_inputs == 0 ? 0 : input / layout_.scale_inputs;
  return scales(output / kPanelOutputs)[block * kPanelOutputs + output % kPanelOutputs];
}

}  // namespace sluice
