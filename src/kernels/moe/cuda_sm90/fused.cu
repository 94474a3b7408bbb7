#include "kernels/moe/cuda_sm90/fused_kernel.cuh"

namespace sluice::moe_sm90 {

uint64_t FusedSharedBytes() { return sizeof(FusedShared); }

cudaError_t LaunchFused(const FusedParams& params, cudaStream_t stream) {
  return LaunchAny<false>(params, stream);
}

}  // namespace sluice::moe_sm90
