#include "formats/packed_matrix.h"

#include <fmt/format.h>

#include <algorithm>

#include "formats/fp8/e4m3.h"
#include "formats/packing/pack_rows.h"
#include "formats/panel_order.h"

namespace sluice {
namespace {

// What the owner of the memory must know of a format.
struct FormatRow {
  WeightFormat format;
  const char* name;
  int64_t element_bits;
  int64_t scale_bytes;  // 0: no scales
  bool grouped;         // scales may be of fewer inputs than the whole row
  float (*at)(const std::byte* panels, int64_t panel_bytes, int64_t output, int64_t input);
};

float Bf16At(const std::byte* panels, int64_t panel_bytes, int64_t output, int64_t input) {
  const int64_t panel_elements = panel_bytes / static_cast<int64_t>(sizeof(Bf16));
  return ToFloat(
      reinterpret_cast<const Bf16*>(panels)[PanelElement(panel_elements, output, input)]);
}
float Fp8At(const std::byte* panels, int64_t panel_bytes, int64_t output, int64_t input) {
  return E4M3ToFloat(static_cast<uint8_t>(panels[PanelElement(panel_bytes, output, input)]));
}
float Int8At(const std::byte* panels, int64_t panel_bytes, int64_t output, int64_t input) {
  return static_cast<int8_t>(panels[PanelQuadByte(panel_bytes, output, input)]);
}
// The code, from which the matrix takes the zero point.
float Int4At(const std::byte* panels, int64_t panel_bytes, int64_t output, int64_t input) {
  const auto byte = static_cast<uint8_t>(panels[PanelNibbleByte(panel_bytes, output, input)]);
  return static_cast<float>(byte >> PanelNibbleShift(input) & 0x0F);
}

// clang-format off
constexpr FormatRow kFormats[kWeightFormats] = {
    // format                  name    bits  scale bytes  grouped  at
    {WeightFormat::kBf16,      "bf16", 16,   0,           false,   Bf16At},
    {WeightFormat::kFp8E4M3,   "fp8",  8,    4,           true,    Fp8At},
    {WeightFormat::kInt8,      "int8", 8,    4,           false,   Int8At},
    {WeightFormat::kInt4,      "int4", 4,    2,           true,    Int4At},
};
// clang-format on

const FormatRow& RowOf(WeightFormat format) { return kFormats[static_cast<int>(format)]; }

int64_t PanelBytes(WeightLayout layout, int64_t inputs) {
  const int64_t padded = (inputs + kPanelInputs - 1) / kPanelInputs * kPanelInputs;
  return padded * kPanelOutputs * RowOf(layout.format).element_bits / 8;
}

int64_t ScaleBlocks(WeightLayout layout, int64_t inputs) {
  if (RowOf(layout.format).scale_bytes == 0) return 0;
  return layout.scale_inputs == 0 ? 1 : (inputs + layout.scale_inputs - 1) / layout.scale_inputs;
}

// Where the parts of a matrix begin, and its size.
struct Parts {
  uint64_t scales, zero_points, bytes;
};

Parts PartsOf(WeightLayout layout, int64_t outputs, int64_t inputs) {
  const auto panels = static_cast<uint64_t>((outputs + kPanelOutputs - 1) / kPanelOutputs);
  const auto blocks = panels * kPanelOutputs * static_cast<uint64_t>(ScaleBlocks(layout, inputs));
  Parts parts;
  parts.scales = panels * static_cast<uint64_t>(PanelBytes(layout, inputs));
  parts.zero_points =
      parts.scales + blocks * static_cast<uint64_t>(RowOf(layout.format).scale_bytes);
  const uint64_t end = parts.zero_points + (layout.zero_points ? blocks : 0);
  parts.bytes = (end + 63) / 64 * 64;
  return parts;
}

bool IsValid(WeightLayout layout) {
  const FormatRow& row = RowOf(layout.format);
  const bool int4 = layout.format == WeightFormat::kInt4;
  const int64_t n = layout.scale_inputs;
  if (layout.zero_points && !int4) return false;
  if (n == 0) return !int4;
  return row.grouped && n > 0 && n % kPanelInputs == 0 && kScaleInputsMax % n == 0;
}

}  // namespace

std::string LayoutName(WeightLayout layout) {
  const FormatRow& row = RowOf(layout.format);
  if (layout.scale_inputs == 0) return row.name;
  return fmt::format("{}, groups of {}{}", row.name, layout.scale_inputs,
                     layout.zero_points ? " with zero points" : "");
}

uint64_t PackedMatrix::Bytes(WeightLayout layout, int64_t outputs, int64_t inputs) {
  return PartsOf(layout, outputs, inputs).bytes;
}

Result<PackedMatrix> PackedMatrix::Allocate(WeightLayout layout, int64_t outputs, int64_t inputs) {
  CHECK(outputs > 0 && inputs > 0);
  TRY(Buffer buffer, Buffer::Allocate(Bytes(layout, outputs, inputs), "packed weights"));
  return Inside(std::make_shared<const Buffer>(std::move(buffer)), 0, layout, outputs, inputs);
}

PackedMatrix PackedMatrix::Inside(std::shared_ptr<const Buffer> buffer, uint64_t begin,
                                  WeightLayout layout, int64_t outputs, int64_t inputs) {
  CHECK(outputs > 0 && inputs > 0 && begin % 64 == 0 && IsValid(layout));
  const Parts parts = PartsOf(layout, outputs, inputs);
  CHECK(begin <= buffer->size() && parts.bytes <= buffer->size() - begin);
  PackedMatrix packed;
  packed.layout_ = layout;
  packed.outputs_ = outputs;
  packed.inputs_ = inputs;
  packed.panel_bytes_ = PanelBytes(layout, inputs);
  packed.data_ = buffer->data() + begin;
  packed.scales_ = packed.data_ + parts.scales;
  packed.zero_points_ = reinterpret_cast<uint8_t*>(packed.data_ + parts.zero_points);
  packed.buffer_ = std::move(buffer);
  return packed;
}

int64_t PackedMatrix::scale_blocks() const { return ScaleBlocks(layout_, inputs_); }

template <class T>
void PackedMatrix::PackAny(int64_t output_begin, View<const T, 2> rows) {
  CHECK_EQ(rows.dim(1), inputs_);
  CHECK(output_begin >= 0 && output_begin + rows.dim(0) <= outputs_);
  PackRows({.format = format(),
            .panels = data_,
            .panel_bytes = panel_bytes(),
            .scales = reinterpret_cast<float*>(scales_),
            .int4 = int4_panels()},
           output_begin, rows, BestPackKernels());
}

void PackedMatrix::Pack(int64_t output_begin, View<const Bf16, 2> rows) {
  CHECK(format() != WeightFormat::kFp8E4M3 || layout_.scale_inputs == 0);
  PackAny(output_begin, rows);
}

void PackedMatrix::Pack(int64_t output_begin, View<const float, 2> rows) {
  CHECK(format() != WeightFormat::kFp8E4M3 || layout_.scale_inputs == 0);
  PackAny(output_begin, rows);
}

void PackedMatrix::PackCodes(int64_t output_begin, View<const uint8_t, 2> rows) {
  CHECK(format() != WeightFormat::kBf16);
  PackAny(output_begin, rows);
  if (format() == WeightFormat::kInt4)
    FillInt4Padding(int4_panels(), output_begin, rows.dim(0), inputs_);
}

Int4Panels PackedMatrix::int4_panels() const {
  return {.panels = reinterpret_cast<uint8_t*>(data_),
          .panel_bytes = panel_bytes(),
          .scales = reinterpret_cast<Bf16*>(scales_),
          .zero_points = layout_.zero_points ? zero_points_ : nullptr,
          .blocks = scale_blocks(),
          .group = layout_.scale_inputs};
}

void PackedMatrix::SetScales(int64_t output_begin, int64_t outputs, View<const float, 2> scales,
                             int64_t outputs_per_scale) {
  const int64_t blocks = scale_blocks();
  CHECK(blocks > 0 && output_begin >= 0 && output_begin + outputs <= outputs_);
  CHECK(outputs_per_scale > 0 && scales.dim(1) == blocks);
  CHECK_EQ(scales.dim(0), (outputs + outputs_per_scale - 1) / outputs_per_scale);
  // Outputs of one panel with the same scales lie side by side.
  int64_t count;
  for (int64_t o = 0; o < outputs; o += count) {
    const int64_t in_panel = kPanelOutputs - (output_begin + o) % kPanelOutputs;
    count = std::min({in_panel, outputs_per_scale - o % outputs_per_scale, outputs - o});
    for (int64_t b = 0; b < blocks; ++b) {
      const float scale = scales(o / outputs_per_scale, b);
      const int64_t at = ScaleAt(output_begin + o, b);
      if (format() == WeightFormat::kInt4)
        std::fill_n(reinterpret_cast<Bf16*>(scales_) + at, count, ToBf16(scale));
      else
        std::fill_n(reinterpret_cast<float*>(scales_) + at, count, scale);
    }
  }
}

void PackedMatrix::SetZeroPoints(int64_t output_begin, View<const uint8_t, 2> zero_points) {
  CHECK(layout_.zero_points && output_begin >= 0);
  CHECK(zero_points.dim(1) == scale_blocks() && output_begin + zero_points.dim(0) <= outputs_);
  for (int64_t o = 0; o < zero_points.dim(0); ++o)
    for (int64_t b = 0; b < zero_points.dim(1); ++b)
      zero_points_[ScaleAt(output_begin + o, b)] = zero_points(o, b);
  FillInt4Padding(int4_panels(), output_begin, zero_points.dim(0), inputs_);
}

float PackedMatrix::Unscaled(int64_t output, int64_t input) const {
  const float stored = RowOf(layout_.format).at(data_, panel_bytes(), output, input);
  if (format() != WeightFormat::kInt4) return stored;
  return stored - static_cast<float>(int4_panels().ZeroPoint(output, input / layout_.scale_inputs));
}

float PackedMatrix::Scale(int64_t output, int64_t input) const {
  if (scale_blocks() == 0) return 1;
  const int64_t at = ScaleAt(output, layout_.scale_inputs == 0 ? 0 : input / layout_.scale_inputs);
  return format() == WeightFormat::kInt4 ? ToFloat(reinterpret_cast<const Bf16*>(scales_)[at])
                                         : reinterpret_cast<const float*>(scales_)[at];
}

}  // namespace sluice
