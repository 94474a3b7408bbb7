// The mixture-of-experts feed-forward layer: one call from routing result to output rows.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/packed_matrix.h"
#include "kernels/linear/activation.h"
#include "kernels/linear/activation_quant.h"
#include "tensor/exec.h"
#include "tensor/view.h"

namespace sluice {

/// One expert: gate and up as one product (panels of 16 gate | 16 up columns), then down.
/// Intermediate widths that are no multiple of 16 are padded with zero columns. Scales, one row of
/// them an output, are interleaved like the columns.
class ExpertWeights {
 public:
  ExpertWeights() = default;
  /// All matrices in one layout. Errors: kOutOfMemory.
  static Result<ExpertWeights> Allocate(WeightLayout layout, int64_t hidden, int64_t intermediate);
  /// `count` experts of one layer in one allocation (thousands of mappings would exhaust the
  /// kernel's limit and waste half a huge page each). Errors: kOutOfMemory.
  static Result<std::vector<ExpertWeights>> AllocateLayer(WeightLayout layout, int64_t count,
                                                          int64_t hidden, int64_t intermediate);
  /// bf16.
  static Result<ExpertWeights> Allocate(int64_t hidden, int64_t intermediate) {
    return Allocate(WeightLayout(), hidden, intermediate);
  }
  static Result<std::vector<ExpertWeights>> AllocateLayer(int64_t count, int64_t hidden,
                                                          int64_t intermediate) {
    return AllocateLayer(WeightLayout(), count, hidden, intermediate);
  }
  /// Of one expert: panels and scales.
  static uint64_t Bytes(WeightLayout layout, int64_t hidden, int64_t intermediate);

  int64_t hidden() const { return hidden_; }
  int64_t intermediate() const { return intermediate_; }

  /// Whole matrices in checkpoint order: gate and up [intermediate, hidden], down [hidden,
  /// intermediate]. Safe to call concurrently.
  template <class T>
  void PackGate(View<const T, 2> rows);
  template <class T>
  void PackUp(View<const T, 2> rows);
  template <class T>
  void PackDown(View<const T, 2> rows);
  /// The same of fp8 codes, and their scales in checkpoint order: [ceil(rows / outputs_per_scale),
  /// scale blocks] of the matrix, as PackedMatrix::SetScales takes them.
  void PackGateCodes(View<const uint8_t, 2> rows);
  void PackUpCodes(View<const uint8_t, 2> rows);
  void PackDownCodes(View<const uint8_t, 2> rows);
  void SetGateScales(View<const float, 2> scales, int64_t outputs_per_scale);
  void SetUpScales(View<const float, 2> scales, int64_t outputs_per_scale);
  void SetDownScales(View<const float, 2> scales, int64_t outputs_per_scale);

  const WeightLayout& layout() const { return gate_up_.layout(); }
  const PackedMatrix& gate_up() const { return gate_up_; }
  const PackedMatrix& down() const { return down_; }
  uint64_t bytes() const { return gate_up_.bytes() + down_.bytes(); }

 private:
  int64_t hidden_ = 0;
  int64_t intermediate_ = 0;
  PackedMatrix gate_up_;
  PackedMatrix down_;
};

/// What makes fused_v2, a switch a part, so that each can be measured alone (`sluice bench moe
/// --ablate`). Without one of them a call is slower; no bit changes.
struct MoeAblation {
  bool shared = true;    // shared expert in the task list; off: a call of its own before the others
  bool prefetch = true;  // a panel's weights are fetched while the one before it is multiplied
  bool residency =
      true;             // whole hidden rows and sums that stay in the caches; off: back end "fused"
  bool overlap = true;  // a lane that waits between the phases fetches its first down panels
  bool codes = true;    // rows are quantised once; off: by each product, as it packs them
};

/// y[t] = round( round( sum_j weights[t, j] * E_ids[t,j](x[t]) ) + shared(x[t]) ), where
/// E(x) = round( down( round( round(act(round(gate x))) * round(up x) ) ) ); the sum over experts
/// is fp32, in ascending order of their ids (of equal ids, of j): docs/decisions/0005. A missing
/// shared expert adds nothing.
/// A row's bits depend on that row, its ids and its weights only.
struct MoeArgs {
  View<const float, 2> x;        // [tokens, hidden]
  View<const int32_t, 2> ids;    // [tokens, top_k], each in [0, experts)
  View<const float, 2> weights;  // [tokens, top_k]
  const std::vector<ExpertWeights>* experts;
  const ExpertWeights* shared;  // or nullptr
  Activation activation = Activation::kSilu;
  Rounding rounding;
  bool bf16_inputs;  // as in LinearArgs
  // Of x, and of the intermediate rows, each of an expert's as a whole, where weights are integers.
  ActivationQuant activations = ActivationQuant::kNone;
  MoeAblation ablation = {};  // of fused_v2 and fused; epmoe has none of these parts
  View<float, 2> y;           // [tokens, hidden]; overlaps no input
};

/// Back ends by name (--moe-backend), equal bit for bit. "epmoe": permute rows by expert, grouped
/// products, combine; each stage a pass over memory. "fused_v2": the outputs' sums stay in the
/// caches. "fused": fused_v2 without residency, which is how the first fused kernels moved data:
/// rows are staged for every small tile, and the down product's sums over slices of its inputs go
/// out to memory and come back. "auto" is epmoe for fewer than 32 tokens, otherwise fused_v2, which
/// is as fast or faster and takes less scratch (docs/fused-moe.md, table 1).
enum class MoeBackend { kAuto, kEpmoe, kFused, kFusedV2 };
Result<MoeBackend> ParseMoeBackend(std::string_view name);

/// Parts to be switched off, by the names of MoeAblation's members. Errors: kInvalidArgument for an
/// unknown one and for one that `backend` has not got.
Result<MoeAblation> ParseMoeAblation(std::span<const std::string> parts, MoeBackend backend);

/// Scratch bytes that a call with up to `tokens` rows may take from the arena; without residency
/// that is kFused, whatever back end was asked. `intermediate` is the larger one of the routed
/// experts and the shared expert. A DenseFfn call takes at most the bytes of top_k = 1 and its own
/// intermediate width, of any back end.
uint64_t MoeScratchBytes(MoeBackend backend, int64_t tokens, int64_t top_k, int64_t hidden,
                         int64_t intermediate, int64_t experts);

/// Errors: none; shapes are CHECKed.
void Moe(const MoeArgs& args, MoeBackend backend, Exec& exec);

/// A dense gated layer is an expert that every row goes to: y = E(x).
struct DenseFfnArgs {
  View<const float, 2> x;
  const ExpertWeights* weights;
  Activation activation = Activation::kSilu;
  Rounding rounding;
  bool bf16_inputs;
  ActivationQuant activations = ActivationQuant::kNone;
  View<float, 2> y;
};
void DenseFfn(const DenseFfnArgs& args, Exec& exec);

/// The definition, in double precision and plain loops (rounds where the contract says).
void MoeReference(const MoeArgs& args, Exec& exec);

}  // namespace sluice
