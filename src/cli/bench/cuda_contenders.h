// What `sluice bench moe --device cuda` compares; plain C++, so that flags are checked and tested
// in every build.
#pragma once

#include <string>
#include <vector>

#include "cli/bench/layer_shapes.h"
#include "cli/bench/layers.h"
#include "kernels/moe/cuda_sm90/device_moe.h"

namespace sluice {

/// A back end on the device, whole or without some of its parts, or the router alone.
struct CudaContender {
  std::string name = {};
  bool plain = false;   // epmoe
  bool router = false;  // the router alone
  moe_sm90::FusedOptions options = {};
  bool shared = true;  // with the shared expert, if there is one
  int ranks = 1;       // virtual ones, which share the device
  Routing routing = Routing::kUniform;
};

/// Flags that have no meaning on a GPU, and formats and back ends that it has not. Errors:
/// kInvalidArgument and kUnsupported, naming the flag.
Status CheckCudaOptions(const BenchMoeOptions& options);
Result<std::vector<moe_sm90::Element>> ReadCudaFormats(const BenchMoeOptions& options);

/// Every combination of routing, experts, ranks, back end and ablation that the lists of `options`
/// ask for and that exists: epmoe has one rank and no parts. Errors: kInvalidArgument, for an
/// unknown name, and for what nothing in the list can do.
Result<std::vector<CudaContender>> ReadCudaContenders(const BenchMoeOptions& options,
                                                      const MoeShape& shape);

/// "prefetch+overlap", or "lag:400+ring:8" for how the kernel is cut up, into options. Errors:
/// kInvalidArgument.
Result<moe_sm90::FusedOptions> ReadCudaAblation(const std::string& text);

}  // namespace sluice
