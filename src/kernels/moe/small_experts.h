// Experts whose weights are a few KiB and whose rows are a handful: alone, each of their products
// is over before its sums have hidden each other's latency, and shorter than what a panel product
// does around it.
//
// Included by a file compiled for AVX-512: it must hold no inline functions.
#pragma once

#include <cstdint>

#include "kernels/linear/activation.h"

namespace sluice {

/// One expert's part of a step, weights in panels of bfloat16s.
struct SmallExpert {
  const uint16_t* gate_up;  // panels of 16 gate | 16 up columns, `hidden` inputs each
  const uint16_t* down;     // hidden / 32 panels
  int64_t gate_panels;      // of gate_up
  int64_t intermediate;     // inputs of down, in (16 (gate_panels - 1), 16 gate_panels]
  int64_t down_stride;      // elements from a panel of down to the next one
  const int32_t* row_ids;   // [rows] rows of x, or none: the first `rows` rows
  int64_t rows;             // in [1, kSmallExpertRows]
  float* out;               // row r's `hidden` values lie at out + r * out_stride
};

inline constexpr int64_t kSmallExpertRows = 14;
/// The widest rows, of x and between the products.
inline constexpr int64_t kSmallExpertWidth = 512;

struct SmallExperts {
  const SmallExpert* experts;  // those with equally many rows beside each other, to be paired
  int64_t count;
  int64_t hidden;       // a multiple of 32
  int64_t gate_stride;  // elements from a panel of gate_up to the next one
  const float* x;       // bfloat16 values
  int64_t x_stride;
  Activation activation;
  int64_t out_stride;
  uint16_t* scratch;  // kSmallExpertScratch elements, 64-byte aligned
};

/// Elements between the rows of a product: 64 bytes more than they hold, so that rows do not share
/// cache sets.
inline constexpr int64_t kSmallExpertStride = kSmallExpertWidth + 32;
/// Rows in and between the products of two experts.
inline constexpr int64_t kSmallExpertScratch = 4 * kSmallExpertRows * kSmallExpertStride;

/// out = E(x) of every expert (moe.h, rounded), with the bits of the panel kernel "avx512_bf16",
/// whose instructions it needs. On the calling thread.
void RunSmallExpertsAvx512Bf16(const SmallExperts& args);

}  // namespace sluice
