#include <cmath>
#include <numbers>
#include <vector>

#include "kernels/moe/moe.h"

namespace sluice {
namespace {

double Round(double x, Rounding rounding) {
  return rounding == Rounding::kBf16 ? RoundToBf16(static_cast<float>(x)) : x;
}

double Dot(const PackedMatrix& weight, int64_t output, const double* x) {
  double sum = 0;
  for (int64_t i = 0; i < weight.inputs(); ++i) sum += x[i] * weight.ExactAt(output, i);
  return sum;
}

double Activate(Activation activation, double x) {
  switch (activation) {
    case Activation::kSilu: return x / (1 + std::exp(-x));
    case Activation::kGeluTanh:
      return 0.5 * x *
             (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
  }
  return x;
}

// E(x) of the contract.
std::vector<double> Expert(const ExpertWeights& expert, const double* x, const MoeArgs& args) {
  const Rounding rounding = args.rounding;
  std::vector<double> middle(expert.intermediate()), out(expert.hidden());
  const std::vector<double> row = RowAsRead(args.activations, expert.gate_up(), x);
  for (int64_t i = 0; i < expert.intermediate(); ++i) {
    const int64_t output = i / 16 * 32 + i % 16;  // 16 gate | 16 up
    const double gate = Round(Dot(expert.gate_up(), output, row.data()), rounding);
    const double up = Round(Dot(expert.gate_up(), output + 16, row.data()), rounding);
    middle[i] = Round(Round(Activate(args.activation, gate), rounding) * up, rounding);
  }
  middle = RowAsRead(args.activations, expert.down(), middle.data());
  for (int64_t o = 0; o < expert.hidden(); ++o)
    out[o] = Round(Dot(expert.down(), o, middle.data()), rounding);
  return out;
}

}  // namespace

void MoeReference(const MoeArgs& args, Exec&) {
  const int64_t hidden = args.x.dim(1);
  for (int64_t t = 0; t < args.x.dim(0); ++t) {
    const std::vector<double> x(args.x.row(t), args.x.row(t) + hidden);
    std::vector<double> sum(hidden);
    for (int64_t j = 0; j < args.ids.dim(1); ++j) {
      const auto e = Expert((*args.experts)[args.ids(t, j)], x.data(), args);
      for (int64_t h = 0; h < hidden; ++h) sum[h] += double{args.weights(t, j)} * e[h];
    }
    for (double& s : sum) s = Round(s, args.rounding);
    if (args.shared) {
      const auto e = Expert(*args.shared, x.data(), args);
      for (int64_t h = 0; h < hidden; ++h) sum[h] = Round(sum[h] + e[h], args.rounding);
    }
    for (int64_t h = 0; h < hidden; ++h) args.y(t, h) = static_cast<float>(sum[h]);
  }
}

}  // namespace sluice
