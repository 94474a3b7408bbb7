// The variants of Route and what they share.
#pragma once

#include "kernels/moe/route.h"

namespace sluice {

/// In double precision up to p; the selection on p rounded to fp32. On the calling thread.
void RouteReference(const RouteArgs& args, Exec& exec);

void RouteAvx2(const RouteArgs& args, Exec& exec);
void RouteAvx512(const RouteArgs& args, Exec& exec);

/// Experts that a layer may have: bounds the scratch of a lane.
inline constexpr int64_t kRouteExpertsMax = 65536;

/// Chooses token t's experts by p [experts] and writes its ids, weights and (if wanted) scores.
/// `scratch` has room for 3 * experts floats. Selection only: the same code for every variant.
void ChooseExperts(const RouteArgs& args, int64_t t, const float* p, float* scratch);

}  // namespace sluice
