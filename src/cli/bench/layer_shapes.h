// What `sluice bench moe` and `sluice bench linear` run: shapes of shipped geometries, routing
// drawn at random, and how many operations and bytes that is.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "base/status.h"
#include "kernels/linear/activation.h"

namespace sluice {

/// One mixture layer, or one device's share of it.
struct MoeShape {
  std::string name = {};
  int64_t hidden = 0, intermediate = 0, experts = 0, top_k = 0;
  int64_t shared = 0;               // intermediate width of the shared experts together; 0: none
  int n_group = 0, topk_group = 0;  // of the router; 0: no groups
  Activation activation = Activation::kSilu;
};

/// Of a shipped geometry, a directory with config.json, or
/// "HIDDENxINTERMEDIATExEXPERTSxTOP_K[xSHARED]". Errors: those of ResolveModelPath and of the
/// fields; kUnsupported for a model without experts.
Result<MoeShape> ReadMoeShape(std::string_view geometry);

/// What one of P devices owns under expert parallelism, `share` being "1/P": experts / P of them,
/// and of each row's top_k experts as many as fall to it on average, at least one (the rows of a
/// call are then those that are routed to the device). Errors: kInvalidArgument.
Result<MoeShape> ShareOf(const MoeShape& shape, std::string_view share);

/// A dense product.
struct LinearShape {
  std::string name = {};
  int64_t outputs = 0, inputs = 0;
};

/// The products that every geometry has: queries, keys, values (and the gate of linear attention)
/// as one, the output of attention, a dense feed-forward layer, lm_head. Errors: as of
/// ReadMoeShape.
Result<std::vector<LinearShape>> ReadLinearShapes(std::string_view geometry);

/// "OUTPUTSxINPUTS", both in [1, 2^20]. Errors: kInvalidArgument.
Result<LinearShape> ParseLinearShape(std::string_view text);

/// How rows choose experts: all alike; expert e in proportion to 1 / (e + 1); expert 0 for every
/// row and the others all alike.
enum class Routing { kUniform, kZipf, kHot };
inline constexpr int kRoutings = 3;
Result<Routing> ParseRouting(std::string_view name);

/// Draws top_k distinct experts for each of `tokens` rows: [tokens * top_k].
std::vector<int32_t> DrawExperts(Routing routing, const MoeShape& shape, int64_t tokens,
                                 SplitMix64& random);

/// Multiplications and additions, and bytes of the weights that are read at least once.
struct LayerWork {
  double flop = 0, bytes = 0;
  double active_experts = 0;  // a mean, where a run makes several calls
};

/// Of one call. `expert_bytes`, `shared_bytes`: the packed weights of one routed expert and of the
/// shared one.
LayerWork MoeWork(const MoeShape& shape, const std::vector<int32_t>& ids, uint64_t expert_bytes,
                  uint64_t shared_bytes);
LayerWork LinearWork(const LinearShape& shape, int64_t rows, uint64_t weight_bytes);

/// Share of the roofline max(bytes / bandwidth, flop / peak) that `seconds` reach.
double RooflineShare(const LayerWork& work, double seconds, double flops, double bandwidth);

}  // namespace sluice
