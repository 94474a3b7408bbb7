#include "kernels/linear/linear_variants.h"

namespace sluice {

void LinearReference(const LinearArgs& args, Exec&) {
  for (int64_t t = 0; t < args.x.dim(0); ++t)
    for (int64_t o = 0; o < args.weight->outputs(); ++o) {
      double sum = args.bias ? args.bias[o] : 0;
      for (int64_t i = 0; i < args.weight->inputs(); ++i)
        sum += double{args.x(t, i)} * args.weight->At(o, i);
      const auto y = static_cast<float>(sum);
      args.y(t, o) = args.rounding == Rounding::kBf16 ? RoundToBf16(y) : y;
    }
}

}  // namespace sluice
