// The router: logits, one warp for a few tokens and experts, its lanes over the hidden dimension;
// then one warp a token for its scores and its choice.
#include <cuda_bf16.h>

#include "kernels/moe/cuda_sm90/instructions.cuh"
#include "kernels/moe/cuda_sm90/launch.h"
#include "kernels/moe/cuda_sm90/route_choice.h"
#include "kernels/moe/cuda_sm90/route_kernels.h"
#include "kernels/moe/cuda_sm90/rows.cuh"
#include "kernels/moe/cuda_sm90/shape.h"

namespace sluice::moe_sm90 {
namespace {

constexpr unsigned kAllLanes = 0xFFFFFFFF;
constexpr int kLogitWarps = 2, kChoiceWarps = 4;
constexpr int kColumns = 4;  // of a lane at a time

__device__ void LoadX(const __nv_bfloat16* row, int column, int columns, bool aligned,
                      float (&out)[kColumns]) {
  if (aligned) {
    const uint2 packed = *reinterpret_cast<const uint2*>(row + column);
    out[0] = __uint_as_float(packed.x << 16);
    out[1] = __uint_as_float(packed.x & 0xFFFF0000);
    out[2] = __uint_as_float(packed.y << 16);
    out[3] = __uint_as_float(packed.y & 0xFFFF0000);
    return;
  }
#pragma unroll
  for (int i = 0; i < kColumns; ++i)
    out[i] = column + i < columns ? __bfloat162float(row[column + i]) : 0;
}
__device__ void LoadGate(const float* row, int column, int columns, bool aligned,
                         float (&out)[kColumns]) {
  if (aligned) {
    const float4 four = *reinterpret_cast<const float4*>(row + column);
    out[0] = four.x;
    out[1] = four.y;
    out[2] = four.z;
    out[3] = four.w;
    return;
  }
#pragma unroll
  for (int i = 0; i < kColumns; ++i) out[i] = column + i < columns ? row[column + i] : 0;
}

// Logits of kTokens x kExperts into scores. However many a warp takes, a logit is the same sum:
// zeros behind the last column change no bit of it.
template <int kTokens, int kExperts>
__global__ void __launch_bounds__(kLogitWarps* kWarp) Logits(const DeviceRouteArgs a) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int token = blockIdx.y * kTokens;
  const int expert = (blockIdx.x * kLogitWarps + warp) * kExperts;
  if (expert >= a.experts) return;
  const bool aligned = a.hidden % kColumns == 0;
  const auto* x = static_cast<const __nv_bfloat16*>(a.x);
  float sums[kTokens][kExperts] = {};
#pragma unroll 2
  for (int c = lane * kColumns; c < a.hidden; c += kWarp * kColumns) {
    float values[kTokens][kColumns];
#pragma unroll
    for (int t = 0; t < kTokens; ++t)
      LoadX(x + int64_t{min(token + t, a.tokens - 1)} * a.hidden, c, a.hidden, aligned, values[t]);
#pragma unroll
    for (int e = 0; e < kExperts; ++e) {
      float gate[kColumns];
      LoadGate(a.gate + int64_t{min(expert + e, a.experts - 1)} * a.hidden, c, a.hidden, aligned,
               gate);
#pragma unroll
      for (int t = 0; t < kTokens; ++t)
#pragma unroll
        for (int i = 0; i < kColumns; ++i) sums[t][e] = fmaf(values[t][i], gate[i], sums[t][e]);
    }
  }
#pragma unroll
  for (int t = 0; t < kTokens; ++t)
#pragma unroll
    for (int e = 0; e < kExperts; ++e) {
      float sum = sums[t][e];
      for (int step = kWarp / 2; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
      if (lane == 0 && token + t < a.tokens && expert + e < a.experts)
        a.scores[int64_t{token + t} * a.experts + expert + e] = sum;
    }
}

__device__ float MaxOfWarp(float x) {
  for (int step = kWarp / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, step));
  return x;
}
__device__ float SumOfWarp(float x) {
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}

// p [experts] from a token's logits, in shared memory; each lane reads and writes its own.
__device__ void Scores(const DeviceRouteArgs& a, const float* logits, float* p) {
  const int lane = threadIdx.x % kWarp;
  float largest = -INFINITY, sum = 0;
  for (int e = lane; e < a.experts; e += kWarp) {
    const float logit = a.softcap > 0 ? a.softcap * tanhf(logits[e] / a.softcap) : logits[e];
    p[e] = logit;
    largest = fmaxf(largest, logit);
  }
  if (!a.softmax) {
    for (int e = lane; e < a.experts; e += kWarp) p[e] = 1.0f / (1.0f + expf(-p[e]));
    return;
  }
  largest = MaxOfWarp(largest);
  for (int e = lane; e < a.experts; e += kWarp) {
    p[e] = expf(p[e] - largest);
    sum += p[e];
  }
  sum = SumOfWarp(sum);
  for (int e = lane; e < a.experts; e += kWarp) p[e] /= sum;
}

struct DeviceWarp {
  template <class F>
  __device__ void Each(F&& f) const {
    f(static_cast<int>(threadIdx.x % kWarp));
    __syncwarp();
  }
  template <class F>
  __device__ RouteCandidate Best(F&& f) const {
    RouteCandidate best = f(static_cast<int>(threadIdx.x % kWarp));
    for (int step = kWarp / 2; step > 0; step /= 2)
      best = BetterOf(best, {__shfl_xor_sync(kAllLanes, best.value, step),
                             __shfl_xor_sync(kAllLanes, best.idx, step)});
    return best;
  }
};

// Dynamic shared memory: of each warp p [experts], c [experts], group scores [n_group].
__global__ void __launch_bounds__(kChoiceWarps* kWarp) Choose(const DeviceRouteArgs a) {
  float* const shared = DynamicShared<float>();
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int token = blockIdx.x * kChoiceWarps + warp;
  if (token >= a.tokens) return;
  float* const p = shared + warp * (2 * a.experts + a.n_group);
  float* const c = p + a.experts;
  float* const scores = a.scores + int64_t{token} * a.experts;
  Scores(a, scores, p);
  __syncwarp();
  for (int e = lane; e < a.experts; e += kWarp) scores[e] = p[e];
  const RouteChoice choice{.experts = a.experts,
                           .top_k = a.top_k,
                           .n_group = a.n_group,
                           .topk_group = a.topk_group,
                           .bias = a.bias,
                           .renormalize = a.renormalize,
                           .scaling = a.scaling};
  ChooseByWarp(choice, p, c, c + a.experts, a.ids + int64_t{token} * a.top_k,
               a.weights + int64_t{token} * a.top_k, DeviceWarp());
}

template <int kTokens, int kExperts>
void LaunchLogits(const DeviceRouteArgs& a, cudaStream_t stream) {
  constexpr int kOfCta = kLogitWarps * kExperts;
  const dim3 grid((a.experts + kOfCta - 1) / kOfCta, (a.tokens + kTokens - 1) / kTokens);
  LaunchKernel(Logits<kTokens, kExperts>, grid, kLogitWarps * kWarp, 0, stream, a);
}

}  // namespace

cudaError_t LaunchRoute(const DeviceRouteArgs& a, cudaStream_t stream) {
  // Few tokens: as many warps as possible read the gate. Many: what is read is used eight times.
  if (a.tokens <= 4)
    LaunchLogits<1, 1>(a, stream);
  else if (a.tokens <= 64)
    LaunchLogits<4, 2>(a, stream);
  else
    LaunchLogits<8, 4>(a, stream);
  const size_t bytes = sizeof(float) * kChoiceWarps * (2 * a.experts + a.n_group);
  LaunchKernel(Choose, (a.tokens + kChoiceWarps - 1) / kChoiceWarps, kChoiceWarps * kWarp, bytes,
               stream, a);
  return cudaGetLastError();
}

}  // namespace sluice::moe_sm90
