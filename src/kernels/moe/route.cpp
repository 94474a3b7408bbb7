#include "kernels/moe/route.h"

#include "kernels/moe/route_variants.h"

namespace sluice {

// clang-format off
constexpr Variant<RouteArgs> kRouteVariants[] = {
    // name        needs      run
    {"avx512",     kAvx512,   RouteAvx512},
    {"avx2",       kAvx2,     RouteAvx2},
    {"reference",  kAnything, RouteReference},
};
// clang-format on

void Route(const RouteArgs& args, Exec& exec) {
  const int64_t tokens = args.x.dim(0), experts = args.gate.dim(0), top_k = args.ids.dim(1);
  CHECK_EQ(args.x.dim(1), args.gate.dim(1));
  CHECK(args.ids.dim(0) == tokens && args.weights.dim(0) == tokens && args.weights.dim(1) == top_k);
  CHECK(experts > 0 && experts <= kRouteExpertsMax && top_k > 0 && top_k <= experts);
  CHECK(!args.scores.data() || (args.scores.dim(0) == tokens && args.scores.dim(1) == experts));
  CHECK(args.n_group == 0 || (args.n_group > 0 && experts % args.n_group == 0 &&
                              args.topk_group > 0 && args.topk_group <= args.n_group));
  Select(kRouteVariants, exec.machine).run(args, exec);
}

std::vector<Variant<RouteArgs>> RouteVariants() {
  return {std::begin(kRouteVariants), std::end(kRouteVariants)};
}

}  // namespace sluice
