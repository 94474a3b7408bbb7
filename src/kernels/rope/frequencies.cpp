#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/rope/rope.h"
#include "tensor/dtype.h"

namespace sluice {

namespace {

// One row of a table.
void FillRow(const RopeFrequencies& frequencies, int64_t position, Rounding rounding, float* cos,
             float* sin) {
  const auto rounded = [&](double x) {
    const float value = static_cast<float>(x) * frequencies.magnitude;
    return rounding == Rounding::kBf16 ? RoundToBf16(value) : value;
  };
  for (const float inverse : frequencies.inverse) {
    // The phase is an fp32 product (never bfloat16: long contexts would lose their position).
    const float phase = static_cast<float>(position) * inverse;
    *cos++ = rounded(std::cos(double{phase}));
    *sin++ = rounded(std::sin(double{phase}));
  }
}

}  // namespace

RopeFrequencies WithKeptRows(RopeFrequencies frequencies, int64_t positions, Rounding rounding) {
  constexpr int64_t kFloats = (1 << 20) / sizeof(float);
  const int64_t width = frequencies.rotary_dim(), rows = std::min(positions, kFloats / width);
  frequencies.kept_rounding = rounding;
  frequencies.kept.resize(static_cast<size_t>(rows * width));
  for (int64_t p = 0; p < rows; ++p) {
    float* const row = frequencies.kept.data() + p * width;
    FillRow(frequencies, p, rounding, row, row + width / 2);
  }
  return frequencies;
}

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
  if (half == 0) return;  // linear attention without rope
  const auto kept = rounding == frequencies.kept_rounding
                        ? static_cast<int64_t>(frequencies.kept.size()) / (2 * half)
                        : 0;
  // A sine or cosine in double costs as much as some hundred elements of other work.
  exec.team.ParallelFor(static_cast<int64_t>(positions.size()), Team::GrainFor(256 * half),
                        [&](int64_t begin, int64_t end) {
                          for (int64_t t = begin; t < end; ++t) {
                            if (positions[t] >= kept) {
                              FillRow(frequencies, positions[t], rounding, table.cos.row(t),
                                      table.sin.row(t));
                              continue;
                            }
                            const float* row = frequencies.kept.data() + positions[t] * 2 * half;
                            std::copy_n(row, half, table.cos.row(t));
                            std::copy_n(row + half, half, table.sin.row(t));
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
