#include "formats/fp8/quantize.h"

#include <algorithm>
#include <cmath>

#include "formats/fp8/e4m3.h"

namespace sluice {

Fp8Quantized QuantizeFp8(View<const float, 2> w, int64_t scale_rows, int64_t scale_columns) {
  CHECK(scale_rows > 0 && scale_columns > 0);
  Fp8Quantized out{.codes = std::vector<uint8_t>(static_cast<size_t>(w.dim(0) * w.dim(1))),
                   .scales = {},
                   .rows = w.dim(0),
                   .columns = w.dim(1),
                   .scale_rows = scale_rows,
                   .scale_columns = scale_columns};
  for (int64_t r0 = 0; r0 < w.dim(0); r0 += scale_rows)
    for (int64_t c0 = 0; c0 < w.dim(1); c0 += scale_columns) {
      const int64_t r1 = std::min(r0 + scale_rows, w.dim(0));
      const int64_t c1 = std::min(c0 + scale_columns, w.dim(1));
      float largest = 0;
      for (int64_t r = r0; r < r1; ++r)
        for (int64_t c = c0; c < c1; ++c) largest = std::max(largest, std::fabs(w(r, c)));
      const float scale = largest / kE4M3Max;
      out.scales.push_back(scale);
      for (int64_t r = r0; r < r1; ++r)
        for (int64_t c = c0; c < c1; ++c)
          out.codes[static_cast<size_t>(r * w.dim(1) + c)] =
              FloatToE4M3(scale == 0 ? w(r, c) : w(r, c) / scale);
    }
  return out;
}

Fp8Quantized QuantizeFp8Channel(View<const float, 2> w) {
  return QuantizeFp8(w, 1, std::max<int64_t>(w.dim(1), 1));
}

Fp8Quantized QuantizeFp8Block(View<const float, 2> w) { return QuantizeFp8(w, 128, 128); }

}  // namespace sluice
