// Rotary position embedding: frequencies (plain and YaRN), per-step angle tables, rotation.
#pragma once

#include <span>
#include <vector>

#include "tensor/exec.h"
#include "tensor/view.h"

namespace sluice {

/// YaRN parameters (arXiv 2309.00071); factor 1 means none.
struct YarnParams {
  double factor = 1;
  double original_max_position = 0;
  double beta_fast = 32;
  double beta_slow = 1;
  double mscale = 1;
  double mscale_all_dim = 0;
  double extrapolation_factor = 1;  // how much the fast dimensions keep of their frequency
  double attention_factor =
      0;  // what cos and sin are multiplied by; 0: it follows from the mscales
};

/// What YaRN calls mscale: 1 for factor <= 1, else 0.1 m ln(factor) + 1.
double YarnMscale(double factor, double m);

/// Frequencies of `rotary_dim` / 2 pairs and the factor on cos and sin.
struct RopeFrequencies {
  std::vector<float> inverse;  // [rotary_dim / 2]
  float magnitude = 1;
  // Rows of a RopeTable of the first positions, of WithKeptRows: [positions][cos | sin].
  std::vector<float> kept;
  Rounding kept_rounding = Rounding::kNone;
  int64_t rotary_dim() const { return static_cast<int64_t>(inverse.size()) * 2; }
};
/// `rotary_dim` is even and positive, `base` > 1; `yarn` may be nullptr.
RopeFrequencies MakeRopeFrequencies(int64_t rotary_dim, double base, const YarnParams* yarn);

/// With the table's rows of the first `positions` positions, or of as many as 1 MiB holds, computed
/// once for all steps: in a small model a row's sines and cosines take longer than all rotations.
RopeFrequencies WithKeptRows(RopeFrequencies frequencies, int64_t positions, Rounding rounding);

/// cos and sin of float32(position) * inverse (in fp32), times magnitude, rounded: one row a token.
/// Computed once a step and shared by all layers.
struct RopeTable {
  View<float, 2> cos, sin;  // [rows, rotary_dim / 2]
};
void FillRopeTable(const RopeFrequencies& frequencies, std::span<const int32_t> positions,
                   Rounding rounding, RopeTable table, Exec& exec);
/// A filled table in memory of exec.scratch: at most RopeTableBytes(rotary_dim, rows).
RopeTable MakeRopeTable(const RopeFrequencies& frequencies, std::span<const int32_t> positions,
                        Rounding rounding, Exec& exec);
uint64_t RopeTableBytes(int64_t rotary_dim, int64_t rows);

enum class RopeLayout {
  kNeox,         // pairs (x[i], x[i + R/2])
  kInterleaved,  // pairs (x[2i], x[2i + 1]), kept in place
};

/// Rotates the first rotary_dim entries of every head in place:
/// (a, b) -> ( round(a cos - b sin), round(b cos + a sin) ), products and sum in fp32.
struct RopeArgs {
  View<float, 3> x;  // [rows, heads, >= rotary_dim]
  RopeTable table;
  RopeLayout layout;
  Rounding rounding;  // kNone for linear attention, whose q and k stay fp32
};
void Rope(const RopeArgs& args, Exec& exec);

std::vector<Variant<RopeArgs>> RopeVariants();

}  // namespace sluice
