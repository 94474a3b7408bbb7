// Between the host and the kernels of the plain back end.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/moe/cuda_sm90/shape.h"

namespace sluice::moe_sm90 {

/// Rows of a product: those of each expert in token order, then one row a token for the shared
/// expert. Rows are cut in blocks of kPlainRows.
inline constexpr int kPlainRows = 128, kPlainOutputs = 128;

struct PlainParams {
  MoeShape shape;
  RankArgs args;
  ExpertsView routed, shared;
  int padded_hidden;
  int middle_stride;  // elements of an intermediate row
  // Scratch. rows = tokens * top_k + (shared ? tokens : 0)
  int* begins;          // [experts + 2] first row of each expert, of the shared one, the end
  int* block_begins;    // [experts + 2] the same in blocks
  int* row_tokens;      // [rows]
  int* row_slots;       // [rows] row of `slots`
  float* slot_weights;  // [tokens * top_k], of each token in ascending order of experts
  void* x;              // [tokens, padded_hidden] elements
  float* x_scales;      // [tokens]
  uint16_t* middle;     // bf16 [rows, middle_stride]
  uint8_t* middle_codes;
  float* middle_scales;  // [rows]
  uint16_t* slots;       // bf16 [tokens * top_k + tokens, padded_hidden]
};

/// Enqueues everything; the caller looks at the last error.
cudaError_t LaunchPlain(const PlainParams& params, cudaStream_t stream);

/// Random weights: bf16 values in (-scale, scale), or codes of values in (-448, 448).
cudaError_t LaunchRandomBf16(void* out, int64_t count, float scale, uint64_t seed,
                             cudaStream_t stream);
cudaError_t LaunchRandomFp8(void* out, int64_t count, uint64_t seed, cudaStream_t stream);
cudaError_t LaunchFill(float* out, int64_t count, float value, cudaStream_t stream);
/// sums[i] += x[i], bf16.
cudaError_t LaunchAdd(void* sums, const void* x, int64_t count, cudaStream_t stream);
/// Reads everything once, for its bandwidth; `out` [1] takes what keeps the reads alive. bytes: a
/// multiple of 16.
cudaError_t LaunchRead(const void* data, int64_t bytes, uint32_t* out, cudaStream_t stream);

}  // namespace sluice::moe_sm90
