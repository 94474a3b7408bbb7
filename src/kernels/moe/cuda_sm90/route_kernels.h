// Between the host and the kernels of the router.
#pragma once

#include <cuda_runtime.h>

#include "kernels/moe/cuda_sm90/route_args.h"

namespace sluice::moe_sm90 {

cudaError_t LaunchRoute(const DeviceRouteArgs& args, cudaStream_t stream);

}  // namespace sluice::moe_sm90
