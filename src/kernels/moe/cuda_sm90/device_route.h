// Routing on one Hopper GPU: the semantics of RouteArgs (kernels/moe/route.h).
#pragma once

#include "base/status.h"
#include "kernels/moe/cuda_sm90/route_args.h"

struct CUstream_st;

namespace sluice::moe_sm90 {

/// Enqueues two launches; may be captured. A token's bits do not depend on other tokens; a logit is
/// 32 chains of fp32 multiply-adds (of four neighbours each 128 columns), added as a tree; the
/// choice has the bits that ChooseExperts gives for the same scores. Errors: kInvalidArgument
/// naming the field, its value and what is allowed; kInternal with CUDA's message.
Status DeviceRoute(const DeviceRouteArgs& args, CUstream_st* stream);

}  // namespace sluice::moe_sm90
