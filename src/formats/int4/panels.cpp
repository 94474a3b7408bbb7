#include "formats/int4/panels.h"

#include "formats/int4/quantize.h"
#include "formats/panel_order.h"

namespace sluice {
namespace {

void SetNibble(uint8_t* panels, int64_t panel_bytes, int64_t output, int64_t input, uint8_t code) {
  uint8_t& byte = panels[PanelNibbleByte(panel_bytes, output, input)];
  const int shift = PanelNibbleShift(input);
  byte = static_cast<uint8_t>((byte & ~(0x0F << shift)) | code << shift);
}

}  // namespace

int64_t Int4Panels::ScaleAt(int64_t output, int64_t block) const {
  return (output / kPanelOutputs * blocks + block) * kPanelOutputs + output % kPanelOutputs;
}

uint8_t Int4Panels::ZeroPoint(int64_t output, int64_t block) const {
  return zero_points ? zero_points[ScaleAt(output, block)] : kInt4Zero;
}

void FillInt4Padding(const Int4Panels& to, int64_t output_begin, int64_t outputs, int64_t inputs) {
  const int64_t padded = to.panel_bytes * 2 / kPanelOutputs;
  for (int64_t o = output_begin; o < output_begin + outputs; ++o)
    for (int64_t i = inputs; i < padded; ++i)
      SetNibble(to.panels, to.panel_bytes, o, i, to.ZeroPoint(o, to.blocks - 1));
}

}  // namespace sluice
