#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/rope/rope.h"
#include "tensor/dtype.h"

namespace sluice {

double YarnMscale(double factor, double m) {
  return factor <= 1 ? 1 : 0.1 * m * std::log(factor) + 1;
}

RopeFrequencies MakeRopeFrequencies(int64_t rotary_dim, double base, const YarnParams* yarn) {
  CHECK(rotary_dim > 0 && rotary_dim % 2 == 0);
  RopeFrequencies out;
  const auto width = static_cast<double>(rotary_dim);
  for (int64_t i = 0; i < rotary_dim / 2; ++i)
    out.inverse.push_back(
        static_cast<float>(std::pow(base, -2.0 * static_cast<double>(i) / width)));
  if (!yarn) return out;
  // Dimensions that turn more than beta_fast times within the original context keep their
  // frequency, those that turn less than beta_slow times are stretched, a ramp lies between.
  const auto dimension = [&](double rotations) {
    return width * std::log(yarn->original_max_position / (2 * std::numbers::pi * rotations)) /
           (2 * std::log(base));
  };
  const double low = std::max(std::floor(dimension(yarn->beta_fast)), 0.0);
  const double high = std::min(std::ceil(dimension(yarn->beta_slow)), width - 1);
  for (int64_t i = 0; i < rotary_dim / 2; ++i) {
    const double ramp =
        std::clamp((static_cast<double>(i) - low) / std::max(high - low, 0.001), 0.0, 1.0);
    const double plain = std::pow(base, -2.0 * static_cast<double>(i) / width);
    const double kept = (1 - ramp) * yarn->extrapolation_factor;
    out.inverse[i] = static_cast<float>(plain / yarn->factor * (1 - kept) + plain * kept);
  }
  out.magnitude = static_cast<float>(yarn->attention_factor != 0
                                         ? yarn->attention_factor
                                         : YarnMscale(yarn->factor, yarn->mscale) /
                                               YarnMscale(yarn->factor, yarn->mscale_all_dim));
  return out;
}

void FillRopeTable(const RopeFrequencies& frequencies, std::span<const int32_t> positions,
                   Rounding rounding, RopeTable table, Exec& exec) {
  const auto half = static_cast<int64_t>(frequencies.inverse.size());
  CHECK(table.cos.dim(1) == half && table.sin.dim(1) == half);
  const auto rounded = [&](double x) {
    const float value = static_cast<float>(x) * frequencies.magnitude;
    return rounding == Rounding::kBf16 ? RoundToBf16(value) : value;
  };
  // A sine or cosine in double costs as much as some hundred elements of other work.
  exec.team.ParallelFor(static_cast<int64_t>(positions.size()), Team::GrainFor(256 * half),
                        [&](int64_t begin, int64_t end) {
                          for (int64_t t = begin; t < end; ++t)
                            for (int64_t i = 0; i < half; ++i) {
                              // The phase is an fp32 product (never bfloat16: long contexts would
                              // lose their position).
                              const float phase =
                                  static_cast<float>(positions[t]) * frequencies.inverse[i];
                              table.cos(t, i) = rounded(std::cos(double{phase}));
                              table.sin(t, i) = rounded(std::sin(double{phase}));
                            }
                        });
}

RopeTable MakeRopeTable(const RopeFrequencies& frequencies, std::span<const int32_t> positions,
                        Rounding rounding, Exec& exec) {
  const auto rows = static_cast<int64_t>(positions.size());
  const auto half = static_cast<int64_t>(frequencies.inverse.size());
  const RopeTable out = {exec.scratch.Matrix<float>(rows, half),
                         exec.scratch.Matrix<float>(rows, half)};
  FillRopeTable(frequencies, positions, rounding, out, exec);
  return out;
}

uint64_t RopeTableBytes(int64_t rotary_dim, int64_t rows) {
  return static_cast<uint64_t>(rows * rotary_dim) * sizeof(float) + 2 * 64;
}

}  // namespace sluice
