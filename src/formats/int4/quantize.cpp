#include "formats/int4/quantize.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace sluice {
namespace {

// Of a positive number.
Bf16 RoundUp(float x) {
  return {static_cast<uint16_t>((std::bit_cast<uint32_t>(x) + 0xFFFFu) >> 16)};
}

}  // namespace

Int4Group ChooseInt4Group(float smallest, float largest, bool zero_points) {
  const float below = std::fabs(std::min(smallest, 0.0f)), above = std::max(largest, 0.0f);
  if (zero_points) {
    const Bf16 scale = RoundUp(below / kInt4Max + above / kInt4Max);
    if (scale.bits == 0) return {scale, 0};
    const float zero = std::nearbyint(below / ToFloat(scale));
    return {scale, static_cast<uint8_t>(std::min<float>(zero, kInt4Max))};
  }
  const float larger = std::max(below, above), other = std::min(below, above);
  Bf16 scale = RoundUp(std::max(larger / 8, other / 7.5f));
  if (above > below) scale.bits |= 0x8000;
  return {scale, kInt4Zero};
}

uint8_t Int4Code(float w, Int4Group group) {
  const float scale = ToFloat(group.scale);
  if (scale == 0) return group.zero;
  const float code = std::nearbyint(w / scale) + static_cast<float>(group.zero);
  return static_cast<uint8_t>(std::clamp<float>(code, 0, kInt4Max));
}

Int4Quantized QuantizeInt4(View<const float, 2> w, int64_t group, bool zero_points) {
  CHECK(group > 0);
  const int64_t groups = (w.dim(1) + group - 1) / group;
  Int4Quantized out{.codes = std::vector<uint8_t>(static_cast<size_t>(w.dim(0) * w.dim(1))),
                    .scales = {},
                    .zero_points = {},
                    .rows = w.dim(0),
                    .columns = w.dim(1),
                    .groups = groups};
  for (int64_t r = 0; r < w.dim(0); ++r)
    for (int64_t begin = 0; begin < w.dim(1); begin += group) {
      const int64_t end = std::min(begin + group, w.dim(1));
      const auto [smallest, largest] = std::minmax_element(w.row(r) + begin, w.row(r) + end);
      const Int4Group g = ChooseInt4Group(*smallest, *largest, zero_points);
      out.scales.push_back(ToFloat(g.scale));
      if (zero_points) out.zero_points.push_back(g.zero);
      for (int64_t c = begin; c < end; ++c)
        out.codes[static_cast<size_t>(r * w.dim(1) + c)] = Int4Code(w(r, c), g);
    }
  return out;
}

}  // namespace sluice
