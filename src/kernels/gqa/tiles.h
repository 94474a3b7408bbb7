// The two operations on a matrix unit that attention over whole pages needs.
//
// This header is included by a file compiled for AMX: it must hold no inline functions.
#pragma once

#include <cstdint>

namespace sluice {

/// C[i, j] = row_scale[i] * C[i, j] + sum_d (A[i, d] + rest[i, d]) * B[d, j], 32 depths at a time
/// in order, A's before rest's: a row's bits depend on that row, B and its C only.
struct TileProduct {
  int64_t rows;            // <= 32
  int64_t columns, depth;  // multiples of 32
  const uint16_t* a;       // bfloat16 bits
  const uint16_t* rest;    // the same strides as A; or nullptr
  int64_t a_row;           // stride in elements
  const void* b;           // bfloat16 pairs, as BlockOps::pair_product reads them
  int64_t b_depth;         // elements from pair to pair
  float* c;
  int64_t c_row;
  const float* row_scale;       // [rows]; nullptr: C is written without being read
  const void* fetch = nullptr;  // memory as large as B to fetch into the cache meanwhile
};

struct TileOps {
  void (*product)(const TileProduct&);
  /// x[i] as a bfloat16 and what it lacks as another: their sum is within 2^-17 of x[i].
  void (*split)(const float* x, int64_t count, uint16_t* near, uint16_t* rest);
};

extern const TileOps kTileOpsAmx;
/// On emulated tiles: for tests on machines without AMX, never in a dispatch table.
extern const TileOps kTileOpsEmulated;

}  // namespace sluice
