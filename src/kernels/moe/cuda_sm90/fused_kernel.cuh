// The fused kernel: one launch whose CTAs stay, each with a warp that fetches operands, one that
// hands out tasks, two that move rows, and two warpgroups that multiply. README.md has the picture.
#pragma once

#include "kernels/moe/cuda_sm90/fused_tiles.cuh"

namespace sluice::moe_sm90 {
namespace {

// 128 service threads and 256 math threads share what the launch bound allots: 168 each.
constexpr int kServiceRegisters = 104, kMathRegisters = 200;
static_assert(kServiceRegisters + 2 * kMathRegisters <= 3 * 168);

__device__ Work WorkOf(const FusedParams& p, int rank, const ExpertTables& tables) {
  const int share = p.shape.experts / p.shape.ranks;
  const FusedRank& r = p.ranks[rank];
  return {.experts = share,
          .expert_rows = tables.rows + rank * share,
          .tokens = r.args.tokens,
          .pairs = r.args.tokens * p.shape.top_k,
          .shared = HasShared(p),
          .quantized = p.shape.element == Element::kFp8,
          .hidden = p.padded_hidden,
          .intermediate = r.routed.intermediate,
          .shared_intermediate = r.shared.intermediate,
          .lag_tasks = p.lag_tasks,
          .ring_units = p.ring_units};
}

template <Element kElement, bool kInstrumented>
__global__ void __launch_bounds__(kThreads, 1)
    FusedMoeKernel(const __grid_constant__ FusedParams p) {
  FusedShared& s = *DynamicShared<FusedShared>();
  const int rank = blockIdx.x / p.ctas, cta = blockIdx.x % p.ctas;
  const int warp = threadIdx.x / kWarp;
  CtaTrace* const cta_trace = kInstrumented && p.trace ? p.trace + blockIdx.x : nullptr;
  if (threadIdx.x == 0) {
    InitBarriers(s);
    if (kInstrumented && cta_trace) StartTrace(cta_trace);
  }
  if (kInstrumented) __syncthreads();
  Tracer<kInstrumented> trace(cta_trace, warp, threadIdx.x % kWarp == 0);
  SortRows<kElement>(p, rank, cta, s.tables);
  if (threadIdx.x == 0) s.work = WorkOf(p, rank, s.tables);
  __syncthreads();
  trace.Add(Did::kSort, 0, 0);
  const Work& work = s.work;
  if (threadIdx.x < kGroupThreads) {
    LowerRegisters<kServiceRegisters>();
    if (warp == 0) {
      if (threadIdx.x == 0) RunFetches<kElement>(p, rank, work, s, trace);
      __syncwarp();
    } else if (warp == 1) {
      if (threadIdx.x % kWarp == 0) RunSchedule(p, rank, work, s);
      __syncwarp();
    }
    RunRowItems<kElement>(p, rank, work, trace);
  } else {
    RaiseRegisters<kMathRegisters>();
    RunProducts<kElement>(p, rank, work, s, trace);
    RunRowItems<kElement>(p, rank, work, trace);
  }
  if constexpr (kInstrumented) {
    __syncthreads();
    if (threadIdx.x == 0 && cta_trace) EndTrace(cta_trace);
  }
}

template <Element kElement, bool kInstrumented>
cudaError_t Launch(const FusedParams& params, cudaStream_t stream) {
  const auto kernel = FusedMoeKernel<kElement, kInstrumented>;
  if (const cudaError_t error =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(sizeof(FusedShared)));
      error != cudaSuccess)
    return error;
  // Cooperative: CTAs wait for each other, so all must be resident or none.
  cudaLaunchAttribute cooperative = {};
  cooperative.id = cudaLaunchAttributeCooperative;
  cooperative.val.cooperative = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(params.ctas * params.shape.ranks);
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = sizeof(FusedShared);
  config.stream = stream;
  config.attrs = &cooperative;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, params);
}

template <bool kInstrumented>
cudaError_t LaunchAny(const FusedParams& params, cudaStream_t stream) {
  return params.shape.element == Element::kFp8
             ? Launch<Element::kFp8, kInstrumented>(params, stream)
             : Launch<Element::kBf16, kInstrumented>(params, stream);
}

}  // namespace
}  // namespace sluice::moe_sm90
