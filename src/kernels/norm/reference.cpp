#include <cmath>

#include "kernels/norm/variants.h"
#include "tensor/dtype.h"

namespace sluice {
namespace {

double Rounded(double x, Rounding rounding) {
  return rounding == Rounding::kBf16 ? RoundToBf16(static_cast<float>(x)) : x;
}

// One row or group, in doubles: the definition.
void NormRow(const float* x, const float* weight, double eps, int64_t width, Rounding rounding,
             float* y) {
  double sum = 0;
  for (int64_t i = 0; i < width; ++i) sum += double{x[i]} * x[i];
  const double inverse = 1 / std::sqrt(sum / static_cast<double>(width) + eps);
  for (int64_t i = 0; i < width; ++i)
    y[i] = static_cast<float>(Rounded(x[i] * (inverse * weight[i]), rounding));
}

}  // namespace

void RmsNormReference(const RmsNormArgs& a, Exec&) {
  for (int64_t t = 0; t < a.x.dim(0); ++t)
    for (int64_t h = 0; h < a.x.dim(1); ++h)
      NormRow(&a.x(t, h, 0), a.weight, a.eps, a.x.dim(2), a.rounding, &a.y(t, h, 0));
}

void AddRmsNormReference(const AddRmsNormArgs& a, Exec&) {
  for (int64_t t = 0; t < a.residual.dim(0); ++t) {
    for (int64_t i = 0; i < a.residual.dim(1); ++i)
      a.residual(t, i) =
          static_cast<float>(Rounded(double{a.residual(t, i)} + a.delta(t, i), a.rounding));
    NormRow(a.residual.row(t), a.weight, a.eps, a.residual.dim(1), a.rounding, a.y.row(t));
  }
}

void SandwichNormReference(const SandwichNormArgs& a, Exec&) {
  const int64_t width = a.residual.dim(1);
  for (int64_t t = 0; t < a.residual.dim(0); ++t) {
    float* y = a.y.row(t);
    NormRow(a.delta.row(t), a.delta_weight, a.eps, width, a.rounding, y);
    for (int64_t i = 0; i < width; ++i) {
      y[i] += a.residual(t, i);
      a.residual(t, i) = static_cast<float>(Rounded(y[i], a.rounding));
    }
    NormRow(y, a.weight, a.eps, width, a.rounding, y);
  }
}

void GatedGroupNormReference(const GatedGroupNormArgs& a, Exec&) {
  const int64_t width = a.x.dim(1) / a.groups;
  for (int64_t t = 0; t < a.x.dim(0); ++t)
    for (int64_t g = 0; g < a.groups; ++g) {
      const int64_t at = g * width;
      float* y = a.y.row(t) + at;
      for (int64_t i = 0; i < width; ++i)
        y[i] = static_cast<float>(Rounded(a.x(t, at + i), a.rounding));
      NormRow(y, a.weight + at, a.eps, width, a.rounding, y);
      for (int64_t i = 0; i < width; ++i) {
        const double sigmoid = Rounded(1 / (1 + std::exp(-double{a.gate(t, at + i)})), a.rounding);
        y[i] = static_cast<float>(Rounded(y[i] * sigmoid, a.rounding));
      }
    }
}

}  // namespace sluice
