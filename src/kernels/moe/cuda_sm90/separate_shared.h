// fused_v2 with the shared expert outside: an ablation.
#pragma once

#include "kernels/moe/cuda_sm90/device_moe.h"

namespace sluice::moe_sm90 {

/// Routed experts, the shared expert as the only expert of a layer, and their sum: three launches
/// with the bits of one. Errors: as MakeFusedMoe; `shape` has a shared expert.
Result<std::unique_ptr<DeviceMoe>> MakeSeparateShared(const MoeShape& shape,
                                                      const DeviceWeights& weights,
                                                      const FusedOptions& options);

}  // namespace sluice::moe_sm90
