#include "kernels/rope/variants.h"
#include "tensor/dtype.h"

namespace sluice {

void RopeReference(const RopeArgs& a, Exec&) {
  const int64_t half = a.table.cos.dim(1);
  const auto rounded = [&](double x) {
    return a.rounding == Rounding::kBf16 ? RoundToBf16(static_cast<float>(x))
                                         : static_cast<float>(x);
  };
  for (int64_t t = 0; t < a.x.dim(0); ++t)
    for (int64_t h = 0; h < a.x.dim(1); ++h)
      for (int64_t i = 0; i < half; ++i) {
        const bool neox = a.layout == RopeLayout::kNeox;
        float& first = a.x(t, h, neox ? i : 2 * i);
        float& second = a.x(t, h, neox ? i + half : 2 * i + 1);
        const double x = first, y = second, c = a.table.cos(t, i), s = a.table.sin(t, i);
        first = rounded(x * c - y * s);
        second = rounded(y * c + x * s);
      }
}

}  // namespace sluice
