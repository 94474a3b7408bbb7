// The layers that `sluice bench moe` measures: their weights, rows and routing, and calls on them.
#pragma once

#include <string>
#include <vector>

#include "base/random.h"
#include "base/team.h"
#include "cli/bench/layer_shapes.h"
#include "cli/bench/layers.h"
#include "cli/bench/weights.h"
#include "kernels/moe/moe.h"
#include "kernels/moe/route.h"

namespace sluice {

/// Weights of one layer; the experts hold the same values in memory of their own.
struct BenchMoeLayer {
  MoeShape shape;
  std::vector<ExpertWeights> experts = {}, shared = {};  // shared: one or none
  std::vector<float> gate = {}, bias = {};               // of the router; empty without one

  /// Errors: out of memory.
  static Result<BenchMoeLayer> Make(const MoeShape& shape, WeightLayout layout, bool router,
                                    uint64_t seed, Team& team);
  static uint64_t Bytes(const MoeShape& shape, WeightLayout layout);
};

/// What runs beside others on the same rows: a back end, whole or without some of its parts, or the
/// router alone.
struct MoeContender {
  std::string name = {};
  MoeBackend backend = MoeBackend::kAuto;
  MoeAblation ablation = {};
  bool shared = true;   // with the shared expert, if there is one
  bool router = false;  // runs first
  bool experts = true;  // false: the router alone
  Routing routing = Routing::kUniform;
};

/// Every combination of routing, experts, back end and ablation that the lists of `options` ask for
/// and that exists: epmoe has no parts to do without. Errors: kInvalidArgument, for an unknown
/// name, and for an ablation that nothing in the list can do.
Result<std::vector<MoeContender>> ReadMoeContenders(const BenchMoeOptions& options,
                                                    const MoeShape& shape);

/// Scratch memory that calls with up to so many tokens take.
uint64_t ScratchBytes(const std::vector<MoeContender>& contenders, const MoeShape& shape,
                      int64_t tokens);

/// One number of tokens: rows, routings and results, and calls on them.
class BenchMoeCase {
 public:
  BenchMoeCase(const BenchMoeLayer& layer, int64_t tokens, ActivationQuant activations,
               uint64_t seed);

  /// Fresh routing, so that the few experts of a few tokens lie in no cache.
  void Draw(Routing routing);
  /// The routing of the last Draw.
  void Run(const MoeContender& contender, Exec& exec);
  LayerWork Work(const MoeContender& contender) const;
  /// Of the last run's output, which was the contender's.
  double Error(const MoeContender& contender, Exec& exec) const;

 private:
  const ExpertWeights* Shared(const MoeContender& contender) const;
  MoeArgs Args(const MoeContender& contender, View<const float, 2> x,
               const std::vector<int32_t>& ids, const std::vector<float>& weights,
               View<float, 2> y) const;
  RouteArgs RouterArgs(View<const float, 2> x, std::vector<int32_t>& ids,
                       std::vector<float>& weights) const;
  double RouterError(Exec& exec) const;

  const BenchMoeLayer& layer_;
  int64_t tokens_;
  ActivationQuant activations_;
  SplitMix64 random_;
  std::vector<float> x_, y_, weights_;
  std::vector<int32_t> ids_[kRoutings];
  std::vector<int32_t> routed_ids_;  // of the router, which nobody follows
  std::vector<float> routed_weights_;
};

}  // namespace sluice
