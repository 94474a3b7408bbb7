#include "kernels/moe/cuda_sm90/instructions.cuh"
#include "kernels/moe/cuda_sm90/stream_probe.h"

namespace sluice::moe_sm90 {
namespace {

constexpr int kBoxBytes = kProbePairBytes / 2, kClusterCtas = 2;

struct ProbeShared {
  uint8_t stages[kProbeStagesMax][kProbePairBytes];
  uint64_t full[kProbeStagesMax], empty[kProbeStagesMax];
};

__device__ uint32_t CtaInCluster() {
  uint32_t rank;
  asm("mov.u32 %0, %cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ void ClusterBarrier() {
  asm volatile("barrier.cluster.arrive;\nbarrier.cluster.wait;" ::: "memory");
}
// On the same barrier of CTA `cta` of the cluster.
__device__ void ArriveAt(uint64_t* barrier, uint32_t cta) {
  asm volatile(
      "{\n.reg .b32 remote;\nmapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [remote];\n}\n" ::"r"(
          SharedAddress(barrier)),
      "r"(cta)
      : "memory");
}
// A box for both CTAs of the cluster, at the same places of their shared memories.
__device__ void CopyBoxToBoth(void* shared, const CUtensorMap* map, int column, int row,
                              uint64_t* barrier, CachePolicy policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".multicast::cluster.L2::cache_hint [%0], [%1, {%3, %4}], [%2], %5, %6;" ::"r"(
          SharedAddress(shared)),
      "l"(map), "r"(SharedAddress(barrier)), "r"(column), "r"(row),
      "h"(static_cast<uint16_t>((1 << kClusterCtas) - 1)), "l"(static_cast<uint64_t>(policy))
      : "memory");
}

// Thread 0 fetches, thread 32 takes what has come and gives the stage back.
template <bool kMulticast>
__global__ void __launch_bounds__(64, 1) Stream(const __grid_constant__ StreamProbe p) {
  ProbeShared& s = *DynamicShared<ProbeShared>();
  const uint32_t half = kMulticast ? CtaInCluster() : 0;
  if (threadIdx.x == 0) {
    for (int i = 0; i < p.stages; ++i) {
      BarrierInit(&s.full[i], 1);
      BarrierInit(&s.empty[i], kMulticast ? kClusterCtas : 1);
    }
    FenceBarrierInit();
  }
  __syncthreads();
  if (kMulticast) ClusterBarrier();
  // Of its own part of the matrix (both CTAs of a cluster receive one part), or, eight CTAs
  // together like the row blocks of a unit, somewhere in what all share.
  const int reader = kMulticast ? blockIdx.x / kClusterCtas : blockIdx.x;
  const int64_t begin = p.shared ? blockIdx.x / 8 * 31 : int64_t{reader} * p.boxes;
  const CachePolicy policy = p.shared ? CachePolicy::kEvictNormal : CachePolicy::kEvictFirst;
  int stage = 0;
  uint32_t parity = 0;
  for (int i = 0; i < p.boxes; ++i) {
    if (threadIdx.x == 0) {
      const int64_t at = begin + i;
      const int column = static_cast<int>(at % p.box_columns) * 128;
      const int row = static_cast<int>(at / p.box_columns % p.box_rows) * 256;
      BarrierWait(&s.empty[stage], parity ^ 1, p.fault, Waiting::kEmptyStage);
      BarrierArriveExpecting(&s.full[stage], kProbePairBytes);
      if (kMulticast) {
        CopyBoxToBoth(s.stages[stage] + half * kBoxBytes, &p.map, column,
                      row + static_cast<int>(half) * 128, &s.full[stage], policy);
      } else {
        for (int box = 0; box < 2; ++box)
          CopyBox(s.stages[stage] + box * kBoxBytes, &p.map, column, row + box * 128,
                  &s.full[stage], policy);
      }
    } else if (threadIdx.x == 32) {
      BarrierWait(&s.full[stage], parity, p.fault, Waiting::kFullStage);
      if (kMulticast) {
        for (uint32_t cta = 0; cta < kClusterCtas; ++cta) ArriveAt(&s.empty[stage], cta);
      } else {
        BarrierArrive(&s.empty[stage]);
      }
    }
    if (++stage == p.stages) {
      stage = 0;
      parity ^= 1;
    }
  }
  __syncthreads();
  if (kMulticast) ClusterBarrier();  // nobody leaves while the other still writes here
}

template <bool kMulticast>
cudaError_t Launch(const StreamProbe& probe, int ctas, cudaStream_t stream) {
  const auto kernel = Stream<kMulticast>;
  if (const cudaError_t error =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(sizeof(ProbeShared)));
      error != cudaSuccess)
    return error;
  cudaLaunchAttribute cluster = {};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {kMulticast ? kClusterCtas : 1u, 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(ctas));
  config.blockDim = dim3(64);
  config.dynamicSmemBytes = sizeof(ProbeShared);
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, probe);
}

}  // namespace

cudaError_t LaunchStreamProbe(const StreamProbe& probe, int ctas, cudaStream_t stream) {
  return probe.multicast ? Launch<true>(probe, ctas, stream) : Launch<false>(probe, ctas, stream);
}

}  // namespace sluice::moe_sm90
