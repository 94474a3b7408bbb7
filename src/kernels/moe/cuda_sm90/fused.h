// Between the host and the fused kernel.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/moe/cuda_sm90/fault.h"
#include "kernels/moe/cuda_sm90/fused_trace.h"
#include "kernels/moe/cuda_sm90/shape.h"
#include "kernels/moe/cuda_sm90/task_stream.h"

namespace sluice::moe_sm90 {

/// Pairs that one CTA sorts.
inline constexpr int kChunkPairs = 1024;
/// Rows of a copy of narrow tiles; those of wide ones have kBlockRows.
inline constexpr int kNarrowBox = 16;
/// One after the other in shared memory: 128 bytes of K of 256 weight rows and of 128 rows, or 256
/// bytes of 128 weight rows and of up to 64 rows.
inline constexpr int kStepBytes = 128, kWeightStageBytes = kWideOutputs * kStepBytes;
inline constexpr int kStageBytes = kWeightStageBytes + kBlockRows * kStepBytes;
inline constexpr int kStages = 4;

struct FusedMaps {
  CUtensorMap x, x_narrow, rows, rows_narrow, middle, middle_narrow;
  CUtensorMap gate_up, down, shared_gate_up, shared_down;
};

/// One row to send.
struct Send {
  int slot;              // row of the sender's `slots`; its token is slot / top_k
  int rank, row, block;  // where it goes
};
/// Where a row came from.
struct Origin {
  int rank, slot;
};

/// One virtual rank. Peers write rows, row_scales, origins, counts and slots.
struct FusedRank {
  RankArgs args;
  ExpertsView routed, shared;  // routed: of this rank
  int chunks;                  // CTAs that sort pairs
  uint8_t* x;                  // elements [tokens, padded hidden]; unused where x is read in place
  float* x_scales;             // [tokens]
  Send* sends;                 // [pairs], in the order of SendOrder
  float* slot_weights;         // [pairs], of each token in ascending order of experts
  uint8_t* rows;               // elements [rows, padded hidden], in order of experts
  float* row_scales;           // [rows]
  Origin* origins;             // [rows]
  uint16_t* middle;            // bf16 [ring_units * kUnitRows, middle_stride]
  uint8_t* middle_codes;       // the same in e4m3
  uint16_t* slots;             // bf16 [pairs + tokens, padded hidden]
  int* counts;                 // [ranks][chunks_max][experts] pairs of each chunk
  // Counters and maxima, zero at the start of a launch.
  int *next_task, *next_item, *counted, *placed;
  int* x_ready;          // [token blocks] rows
  int* arrived;          // [blocks] rows
  int* gate_up_done;     // [blocks] narrow tiles, twice
  int* quantized;        // [blocks] rows
  int* down_done;        // [units] tasks, twice
  int* token_done;       // [tokens] narrow tiles, twice
  uint32_t* middle_max;  // [rows] bits of the largest magnitude
  uint32_t* shared_max;  // [tokens]
};

struct FusedParams {
  FusedRank ranks[kRanksMax];
  FusedMaps maps[kRanksMax];
  MoeShape shape;
  int ctas;        // of a rank
  int chunks_max;  // stride of counts
  int padded_hidden;
  int middle_stride;  // elements
  int lag_tasks, ring_units;
  bool x_in_place;  // bf16 rows that need no padding
  int delay_ns;     // 0, or the longest random delay of an item
  uint32_t delay_seed;
  Fault* fault;  // host memory
  // Of the instrumented kernel alone:
  bool no_prefetch;  // weights are not fetched before their rows have arrived
  bool no_overlap;   // no product begins before all rows have arrived
  CtaTrace* trace;   // [ranks * ctas], or nullptr
};

/// Dynamic shared memory of a CTA.
uint64_t FusedSharedBytes();
cudaError_t LaunchFused(const FusedParams& params, cudaStream_t stream);
/// The same work by a kernel that has switches and a trace.
cudaError_t LaunchFusedInstrumented(const FusedParams& params, cudaStream_t stream);

}  // namespace sluice::moe_sm90
