#include "kernels/moe/cuda_sm90/fused_kernel.cuh"

namespace sluice::moe_sm90 {

cudaError_t LaunchFusedInstrumented(const FusedParams& params, cudaStream_t stream) {
  return LaunchAny<true>(params, stream);
}

}  // namespace sluice::moe_sm90
