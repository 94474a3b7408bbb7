#include <immintrin.h>

#include <algorithm>

#include "kernels/linear/panel_product.h"
#include "kernels/moe/route_variants.h"

namespace sluice {
namespace {

#include "kernels/simd/avx512.inc"

#include "kernels/moe/route_scores.inc"

}  // namespace

void RouteAvx512(const RouteArgs& args, Exec& exec) { RunRoute(args, exec); }

}  // namespace sluice
