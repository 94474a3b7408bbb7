#include "formats/int8/quantize.h"

#include <algorithm>
#include <cmath>

namespace sluice {

float Int8Scale(float largest_magnitude) { return largest_magnitude / kInt8Max; }

int8_t Int8Code(float w, float scale) {
  if (scale == 0) return 0;
  return static_cast<int8_t>(std::clamp(std::nearbyint(w / scale), -kInt8Max, kInt8Max));
}

Int8Quantized QuantizeInt8(View<const float, 2> w) {
  Int8Quantized out{.codes = {}, .scales = {}, .rows = w.dim(0), .columns = w.dim(1)};
  out.codes.reserve(static_cast<size_t>(w.dim(0) * w.dim(1)));
  for (int64_t r = 0; r < w.dim(0); ++r) {
    float largest = 0;
    for (int64_t c = 0; c < w.dim(1); ++c) largest = std::max(largest, std::fabs(w(r, c)));
    out.scales.push_back(Int8Scale(largest));
    for (int64_t c = 0; c < w.dim(1); ++c)
      out.codes.push_back(Int8Code(w(r, c), out.scales.back()));
  }
  return out;
}

}  // namespace sluice
