// The beginning of the fused kernel: rows are counted and placed by prefix sums (never in the order
// of atomics), while x is quantised.
#pragma once

#include "kernels/moe/cuda_sm90/fused.h"
#include "kernels/moe/cuda_sm90/instructions.cuh"
#include "kernels/moe/cuda_sm90/rows.cuh"

namespace sluice::moe_sm90 {

inline constexpr int kThreads = 384, kWarps = kThreads / kWarp;

/// In shared memory, of the experts of all ranks.
struct ExpertTables {
  int rows[kExpertsMax];        // that all ranks send
  int begins[kExpertsMax];      // prefix sums of rows
  int blocks[kExpertsMax];      // prefix sums of row blocks
  int next_row[kExpertsMax];    // of the expert, for this CTA's next pair
  int next_send[kExpertsMax];   // position in the send list, likewise
  int send_order[kExpertsMax];  // by SendOrder: rows this rank sends, then their prefix sums
};

// Exclusive prefix sums of out[i] = value(i), by one warp.
template <class Value>
__device__ void Scan(int* out, int count, Value&& value) {
  const int lane = threadIdx.x % kWarp, run = (count + kWarp - 1) / kWarp;
  const int begin = min(count, lane * run), end = min(count, begin + run);
  int sum = 0;
  for (int i = begin; i < end; ++i) sum += value(i);
  int before = sum;
  for (int step = 1; step < kWarp; step *= 2) {
    const int other = __shfl_up_sync(0xFFFFFFFF, before, step);
    if (lane >= step) before += other;
  }
  before -= sum;
  for (int i = begin; i < end; ++i) {
    const int own = value(i);
    out[i] = before;
    before += own;
  }
}

__device__ inline int PairsOf(const FusedParams& p, int rank) {
  return p.ranks[rank].args.tokens * p.shape.top_k;
}
__device__ inline int ChunkBegin(const FusedParams& p, int rank, int chunk) {
  return static_cast<int>(int64_t{PairsOf(p, rank)} * chunk / p.ranks[rank].chunks);
}
__device__ inline bool HasShared(const FusedParams& p) { return p.shape.shared_intermediate > 0; }

// This CTA's pairs by expert, to every rank.
__device__ inline void CountPairs(const FusedParams& p, int rank, int chunk, ExpertTables& tables) {
  const int experts = p.shape.experts;
  for (int e = threadIdx.x; e < experts; e += kThreads) tables.rows[e] = 0;
  __syncthreads();
  const int end = ChunkBegin(p, rank, chunk + 1);
  for (int i = ChunkBegin(p, rank, chunk) + threadIdx.x; i < end; i += kThreads)
    atomicAdd(&tables.rows[p.ranks[rank].args.ids[i]], 1);
  __syncthreads();
  for (int peer = 0; peer < p.shape.ranks; ++peer)
    for (int e = threadIdx.x; e < experts; e += kThreads)
      p.ranks[peer].counts[(rank * p.chunks_max + chunk) * experts + e] = tables.rows[e];
  __syncthreads();
  if (threadIdx.x < p.shape.ranks) AddRelease(p.ranks[threadIdx.x].counted, 1);
}

// Rows of x as the products take them; those of the first tokens first.
template <Element kElement>
__device__ void PrepareX(const FusedParams& p, int rank, int cta) {
  const FusedRank& r = p.ranks[rank];
  const int warp = threadIdx.x / kWarp, hidden = p.shape.hidden;
  for (int t = warp * p.ctas + cta; t < r.args.tokens; t += kWarps * p.ctas) {
    const auto* row = static_cast<const __nv_bfloat16*>(r.args.x) + int64_t{t} * hidden;
    uint8_t* out = r.x + int64_t{t} * p.padded_hidden * ElementBytes(kElement);
    if constexpr (kElement == Element::kBf16) {
      PadRow(row, hidden, reinterpret_cast<__nv_bfloat16*>(out), p.padded_hidden);
    } else {
      const uint32_t magnitude = RowMagnitude(row, hidden);
      QuantizeRow(row, hidden, magnitude, out, p.padded_hidden);
      if (threadIdx.x % kWarp == 0) r.x_scales[t] = RowScale(magnitude);
    }
    FenceCopyEngine();
    __syncwarp();
    if (threadIdx.x % kWarp == 0) AddRelease(&r.x_ready[t / kBlockRows], 1);
  }
}

// Counts of all chunks into tables.
__device__ inline void SumCounts(const FusedParams& p, int rank, int cta, ExpertTables& tables) {
  const int experts = p.shape.experts, ranks = p.shape.ranks;
  for (int e = threadIdx.x; e < experts; e += kThreads) {
    int total = 0, before = 0, own = 0, own_before = 0;
    for (int source = 0; source < ranks; ++source) {
      const int chunks = p.ranks[source].chunks;
      const int* counts = p.ranks[rank].counts + source * p.chunks_max * experts + e;
#pragma unroll 4
      for (int c = 0; c < chunks; ++c) {
        const int count = counts[c * experts];
        const bool earlier = source < rank || (source == rank && c < cta);
        total += count;
        before += earlier ? count : 0;
        own += source == rank ? count : 0;
        own_before += source == rank && c < cta ? count : 0;
      }
    }
    tables.rows[e] = total;
    tables.next_row[e] = before;
    tables.next_send[e] = own_before;
    tables.send_order[SendOrder(e, rank, ranks, experts)] = own;
  }
  __syncthreads();
  const int warp = threadIdx.x / kWarp;
  if (warp == 0) Scan(tables.begins, experts, [&](int e) { return tables.rows[e]; });
  if (warp == 1)
    Scan(tables.blocks, experts, [&](int e) { return CeilDiv(tables.rows[e], kBlockRows); });
  if (warp == 2) Scan(tables.send_order, experts, [&](int i) { return tables.send_order[i]; });
  __syncthreads();
}

// Warp 0 of a CTA gives each of its pairs a row at the owner of its expert and a place in the send
// list, in order of pairs.
__device__ inline void PlacePairs(const FusedParams& p, int rank, int chunk, ExpertTables& tables) {
  const FusedRank& r = p.ranks[rank];
  const int lane = threadIdx.x % kWarp, top_k = p.shape.top_k;
  const int experts = p.shape.experts, share = experts / p.shape.ranks;
  const int end = ChunkBegin(p, rank, chunk + 1);
  for (int base = ChunkBegin(p, rank, chunk); base < end; base += kWarp) {
    const int i = base + lane;
    const unsigned lanes = __ballot_sync(0xFFFFFFFF, i < end);
    if (i < end) {
      const int e = r.args.ids[i], owner = e / share, first = owner * share;
      const unsigned same = __match_any_sync(lanes, e);
      const int among = __popc(same & ((1u << lane) - 1));
      const int row = tables.next_row[e] + among;
      const int send = tables.send_order[SendOrder(e, rank, p.shape.ranks, experts)] +
                       tables.next_send[e] + among;
      __syncwarp(lanes);
      if (among == 0) {
        tables.next_row[e] += __popc(same);
        tables.next_send[e] += __popc(same);
      }
      __syncwarp(lanes);
      const int token = i / top_k, j = i - token * top_k;
      int order = 0;  // among the token's experts
#pragma unroll 1
      for (int other = 0; other < top_k; ++other) {
        const int id = r.args.ids[token * top_k + other];
        order += id < e || (id == e && other < j);
      }
      const int shared_blocks = HasShared(p) ? CeilDiv(p.ranks[owner].args.tokens, kBlockRows) : 0;
      r.sends[send] = {
          .slot = token * top_k + order,
          .rank = owner,
          .row = tables.begins[e] - tables.begins[first] + row,
          .block = shared_blocks + tables.blocks[e] - tables.blocks[first] + row / kBlockRows};
      r.slot_weights[token * top_k + order] = r.args.weights[i];
    }
  }
  __syncwarp();
  if (lane == 0) AddRelease(r.placed, 1);
}

/// All threads. Afterwards `tables.rows` holds every expert's rows.
template <Element kElement>
__device__ void SortRows(const FusedParams& p, int rank, int cta, ExpertTables& tables) {
  const FusedRank& r = p.ranks[rank];
  if (cta < r.chunks) CountPairs(p, rank, cta, tables);
  if (!p.x_in_place) PrepareX<kElement>(p, rank, cta);
  if (threadIdx.x == 0) {
    int chunks = 0;
    for (int source = 0; source < p.shape.ranks; ++source) chunks += p.ranks[source].chunks;
    WaitAtLeast(r.counted, chunks, p.fault, Waiting::kCounts, 0);
  }
  __syncthreads();
  SumCounts(p, rank, cta, tables);
  if (cta < r.chunks && threadIdx.x < kWarp) PlacePairs(p, rank, cta, tables);
  __syncthreads();
}

}  // namespace sluice::moe_sm90
