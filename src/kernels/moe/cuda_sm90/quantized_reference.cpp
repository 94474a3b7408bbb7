#include "kernels/moe/cuda_sm90/quantized_reference.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "formats/fp8/e4m3.h"

namespace sluice::moe_sm90 {
namespace {

double Round(double x) { return RoundToBf16(static_cast<float>(x)); }

void Quantize(std::vector<double>& row) {
  float largest = 1e-30f;
  bool number = true;
  for (const double x : row) {
    largest = std::max(largest, std::fabs(static_cast<float>(x)));
    number = number && !std::isnan(x);
  }
  const float up = 448 / largest, down = largest / 448;
  for (double& x : row)
    x = number ? double{E4M3ToFloat(FloatToE4M3(static_cast<float>(x) * up))} * down : NAN;
}

double Activate(Activation activation, double x) {
  if (activation == Activation::kSilu) return x / (1 + std::exp(-x));
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

double Dot(const PackedMatrix& weight, int64_t output, const std::vector<double>& x) {
  double sum = 0;
  for (int64_t i = 0; i < weight.inputs(); ++i)
    sum += x[static_cast<size_t>(i)] * weight.ExactAt(output, i);
  return sum;
}

std::vector<double> Expert(const ExpertWeights& expert, const std::vector<double>& x,
                           Activation activation) {
  std::vector<double> middle(static_cast<size_t>(expert.intermediate()));
  for (int64_t i = 0; i < expert.intermediate(); ++i) {
    const int64_t output = i / 16 * 32 + i % 16;  // 16 gate | 16 up
    const double gate = Round(Dot(expert.gate_up(), output, x));
    const double up = Round(Dot(expert.gate_up(), output + 16, x));
    middle[static_cast<size_t>(i)] = Round(Round(Activate(activation, gate)) * up);
  }
  Quantize(middle);
  std::vector<double> out(static_cast<size_t>(expert.hidden()));
  for (int64_t o = 0; o < expert.hidden(); ++o)
    out[static_cast<size_t>(o)] = Round(Dot(expert.down(), o, middle));
  return out;
}

}  // namespace

void QuantizedMoeReference(const MoeArgs& args) {
  const int64_t hidden = args.x.dim(1);
  for (int64_t t = 0; t < args.x.dim(0); ++t) {
    std::vector<double> x(args.x.row(t), args.x.row(t) + hidden);
    Quantize(x);
    std::vector<double> sum(static_cast<size_t>(hidden));
    for (int64_t j = 0; j < args.ids.dim(1); ++j) {
      const auto e =
          Expert((*args.experts)[static_cast<size_t>(args.ids(t, j))], x, args.activation);
      for (size_t h = 0; h < e.size(); ++h) sum[h] += double{args.weights(t, j)} * e[h];
    }
    for (double& s : sum) s = Round(s);
    if (args.shared) {
      const auto e = Expert(*args.shared, x, args.activation);
      for (size_t h = 0; h < e.size(); ++h) sum[h] = Round(sum[h] + e[h]);
    }
    for (int64_t h = 0; h < hidden; ++h)
      args.y(t, h) = static_cast<float>(sum[static_cast<size_t>(h)]);
  }
}

}  // namespace sluice::moe_sm90
