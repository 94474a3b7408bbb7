// Row items of the fused kernel: warps that send rows to the experts' owners, quantise intermediate
// rows and add up tokens.
#pragma once

#include "kernels/moe/cuda_sm90/fused_sort.cuh"
#include "kernels/moe/cuda_sm90/fused_tracer.cuh"

namespace sluice::moe_sm90 {

/// Warpgroups that multiply; each announces its half of a tile, so counters count twice.
inline constexpr int kMathGroups = 2;

__device__ inline void Delay(const FusedParams& p, int position) {
  if (p.delay_ns == 0) return;
  uint32_t x = (static_cast<uint32_t>(position) ^ p.delay_seed) * 0x9E3779B1u;
  x = (x ^ (x >> 15)) * 0x85EBCA77u;
  __nanosleep((x >> 8) % static_cast<uint32_t>(p.delay_ns));
}

__device__ inline int BlockRowsOf(int rows, int block) {
  return min(kBlockRows, rows - block * kBlockRows);
}

template <Element kElement>
__device__ void SendRows(const FusedParams& p, int rank, const RowItem& item) {
  const FusedRank& r = p.ranks[rank];
  const int lane = threadIdx.x % kWarp, row_bytes = p.padded_hidden * ElementBytes(kElement);
  if (lane == 0) WaitAtLeast(r.placed, r.chunks, p.fault, Waiting::kPlaced, rank);
  __syncwarp();
  for (int i = item.begin; i < item.begin + item.count; ++i) {
    const Send send = r.sends[i];
    const FusedRank& to = p.ranks[send.rank];
    const int token = send.slot / p.shape.top_k;
    uint8_t* const out = to.rows + int64_t{send.row} * row_bytes;
    if (p.x_in_place || kElement == Element::kBf16) {
      PadRow(static_cast<const __nv_bfloat16*>(r.args.x) + int64_t{token} * p.shape.hidden,
             p.shape.hidden, reinterpret_cast<__nv_bfloat16*>(out), p.padded_hidden);
    } else {
      const int block = token / kBlockRows;
      if (lane == 0)
        WaitAtLeast(&r.x_ready[block], BlockRowsOf(r.args.tokens, block), p.fault, Waiting::kXReady,
                    block);
      __syncwarp();
      CopyRow(r.x + int64_t{token} * row_bytes, out, row_bytes);
      if (lane == 0) to.row_scales[send.row] = r.x_scales[token];
    }
    if (lane == 0) to.origins[send.row] = {rank, send.slot};
    FenceCopyEngine();
    __syncwarp();
    if (lane == 0) AddRelease(&to.arrived[send.block], 1);
  }
}

__device__ inline void QuantizeMiddle(const FusedParams& p, int rank, const Work& work,
                                      const RowItem& item) {
  const FusedRank& r = p.ranks[rank];
  const int lane = threadIdx.x % kWarp;
  const int columns = item.expert < 0 ? work.shared_intermediate : work.intermediate;
  const uint32_t* magnitudes = (item.expert < 0 ? r.shared_max : r.middle_max) + item.row;
  if (lane == 0)
    WaitAtLeast(&r.gate_up_done[item.block], kMathGroups * 2 * columns / kNarrowOutputs, p.fault,
                Waiting::kGateUp, item.block);
  __syncwarp();
  for (int i = 0; i < item.count; ++i) {
    const int64_t at = int64_t{item.ring_row + i} * p.middle_stride;
    QuantizeRow(reinterpret_cast<const __nv_bfloat16*>(r.middle) + at, columns,
                __ldcg(&magnitudes[i]), r.middle_codes + at, columns);
  }
  FenceCopyEngine();
  __syncwarp();
  if (lane == 0) AddRelease(&r.quantized[item.block], item.count);
}

__device__ inline void Combine(const FusedParams& p, int rank, const Work& work,
                               const RowItem& item) {
  const FusedRank& r = p.ranks[rank];
  const int token = item.begin, top_k = p.shape.top_k;
  if (threadIdx.x % kWarp == 0)
    WaitAtLeast(&r.token_done[token], kMathGroups * DownDone(work) * (top_k + HasShared(p)),
                p.fault, Waiting::kToken, token);
  __syncwarp();
  const auto* slots = reinterpret_cast<const __nv_bfloat16*>(r.slots);
  const int64_t pairs = int64_t{r.args.tokens} * top_k;
  CombineToken(slots + int64_t{token} * top_k * p.padded_hidden, r.slot_weights + token * top_k,
               top_k, HasShared(p) ? slots + (pairs + token) * p.padded_hidden : nullptr,
               p.padded_hidden, item.column, min(item.column + kCombineColumns, p.shape.hidden),
               static_cast<__nv_bfloat16*>(r.args.y) + int64_t{token} * p.shape.hidden,
               p.shape.hidden % kVector == 0);
}

/// One warp takes row items until there are no more.
template <Element kElement, bool kInstrumented>
__device__ void RunRowItems(const FusedParams& p, int rank, const Work& work,
                            Tracer<kInstrumented>& trace) {
  RowWalker walker(work);
  RowItem item;
  for (;;) {
    int position = 0;
    if (threadIdx.x % kWarp == 0) position = atomicAdd(p.ranks[rank].next_item, 1);
    position = __shfl_sync(0xFFFFFFFF, position, 0);
    if (!walker.Seek(position, item)) return;
    Delay(p, position);
    const uint32_t begin = trace.Now();
    if (item.kind == RowKind::kSend)
      SendRows<kElement>(p, rank, item);
    else if (item.kind == RowKind::kQuantize)
      QuantizeMiddle(p, rank, work, item);
    else
      Combine(p, rank, work, item);
    trace.Add(item.kind == RowKind::kSend       ? Did::kSend
              : item.kind == RowKind::kQuantize ? Did::kQuantize
                                                : Did::kCombine,
              begin, position);
  }
}

}  // namespace sluice::moe_sm90
