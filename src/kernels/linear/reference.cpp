#include <vector>

#include "kernels/linear/linear_variants.h"

namespace sluice {

void LinearReference(const LinearArgs& args, Exec&) {
  const int64_t rows = args.x.dim(0), inputs = args.weight->inputs();
  std::vector<std::vector<double>> x;
  for (int64_t t = 0; t < rows; ++t) {
    const std::vector<double> row(args.x.row(t), args.x.row(t) + inputs);
    x.push_back(RowAsRead(args.activations, *args.weight, row.data()));
  }
  std::vector<double> weights(static_cast<size_t>(inputs));  // of one output
  for (int64_t o = 0; o < args.weight->outputs(); ++o) {
    for (int64_t i = 0; i < inputs; ++i) weights[i] = args.weight->ExactAt(o, i);
    for (int64_t t = 0; t < rows; ++t) {
      double sum = args.bias ? args.bias[o] : 0;
      for (int64_t i = 0; i < inputs; ++i) sum += x[t][i] * weights[i];
      const auto y = static_cast<float>(sum);
      args.y(t, o) = args.rounding == Rounding::kBf16 ? RoundToBf16(y) : y;
    }
  }
}

}  // namespace sluice
