// Small matrix products and the softmax step that the attention kernels are made of, each with one
// fixed order of summation per output element. One table of functions an instruction set; the
// drivers (gla/block_form.cpp, mla/pages.cpp, gqa/pages.cpp) hold everything that is not
// arithmetic.
//
// This header is included by files compiled for AVX-512: it must hold no inline functions.
#pragma once

#include <cstdint>

namespace sluice {

/// C[i, j] = row_scale[i] * C[i, j] + sum_d A[i, d] * B[d, j], d ascending, fused. The bits of an
/// element depend on its own row, column and depth only, and a product cut along d and continued
/// with a row_scale of ones has the bits of the whole.
struct BlockProduct {
  int64_t rows, columns, depth;
  const float* a;
  int64_t a_row, a_depth;  // strides of A in elements
  const void* b;           // [depth, columns], floats or bfloat16s
  bool b_is_bf16;
  int64_t b_depth;         // stride of B in elements
  float* c;                // [rows, columns]
  int64_t c_row;           // stride of C in elements
  const float* row_scale;  // [rows]; nullptr: C is written without being read
  bool add_last = false;   // the sum over d first, row_scale * C added to it at the end: C is
                           // rounded once, not `depth` times; such a product cannot be continued
  const void* fetch = nullptr;  // pair_product: memory as large as B, fetched into the second cache
                                // at the pace at which B is read
};

/// Products of one row each, of one shape: product i has the bits of BlockProduct with a + i
/// a_next, b + i b_next and c + i c_next (elements), row_scale + i and contiguous A. Narrow ones
/// are computed side by side: alone, each would wait for its own sums.
struct BlockRows {
  int64_t count, columns, depth;
  const float* a;
  int64_t a_next;
  const void* b;  // [depth, columns] each, floats or bfloat16s
  bool b_is_bf16;
  int64_t b_depth, b_next;
  float* c;
  int64_t c_next;
  const float* row_scale;  // [count] or nullptr
};

/// C[i, j] = scale[i, j] * sum_d A[i, d] * B[j, d]: both rows contiguous. Lane l of the vector sums
/// the products d = l, l + width, ... and the lanes are added as a tree, so the bits depend on the
/// two rows only.
struct BlockDots {
  int64_t rows, columns, depth;
  const float* a;
  int64_t a_row;
  const void* b;  // [columns, depth], floats or bfloat16s
  bool b_is_bf16;
  int64_t b_row;
  float* c;
  int64_t c_row;
  const float* scale = nullptr;  // or none: C is the plain sum
  int64_t scale_row = 0;         // from a row's scales to the next one's; may be negative
};

/// C[i, j] = sum_d A[i, d] * B[j, d] of bfloat16s by vdpbf16ps, four rows of A in one register:
/// lane l of four sums the pairs of products d = 2 l and 2 l + 1 of every 8 d, and the lanes are
/// added as (0 + 2) + (1 + 3), so the bits depend on the two rows only.
struct BlockNarrowDots {
  int64_t rows, columns, depth;
  const void* packed_a;  // by PackNarrowRowsAvx512
  const void* b;         // [columns rounded up to 16, depth]: all of these are read
  int64_t b_row;
  float* c;
  int64_t c_row;
};
void NarrowDotsAvx512Bf16(const BlockNarrowDots& dots);

/// The order of packed_a, of floats that are bfloat16s: [rows / 4][depth / 8][4][8], both rounded
/// up, the rest zeros; 64-byte aligned.
void PackNarrowRowsAvx512(const float* from, int64_t from_row, int64_t rows, int64_t depth,
                          void* to);

/// C[i, j] = sum_d A[i, d] * B[d, j] of bfloat16s by vdpbf16ps, the pairs of B as
/// BlockOps::pair_product reads them: one chain over the pairs in order, so the bits depend on the
/// row and the column only.
struct BlockNarrowProduct {
  int64_t rows, columns, depth;  // depth: even
  const void* a;
  int64_t a_row;    // stride in elements
  const void* b;    // [depth / 2][columns rounded up to 16][2]: all of these are read
  int64_t b_depth;  // elements from pair to pair
  float* c;
  int64_t c_row;                // room for the columns rounded up to 16, which are written
  const void* fetch = nullptr;  // as of pair_product
};
void NarrowProductAvx512Bf16(const BlockNarrowProduct& product);

struct BlockOps {
  void (*product)(const BlockProduct&);
  /// The same sums, bit for bit, where B holds bfloat16s with two depths side by side:
  /// [(depth + 1) / 2][columns][2], b_depth elements from pair to pair; b_is_bf16 is not looked at.
  /// The second half of the last pair of an odd depth is never used.
  void (*pair_product)(const BlockProduct&);
  void (*row_products)(const BlockRows&);
  void (*dots)(const BlockDots&);
  /// One page of an online softmax: with x[t] = scale * s[t], or cap * tanh(scale * s[t]) where cap
  /// > 0, and new_top = max(*top, max x), s[t] becomes exp(x[t] - new_top) for t < count <= 64 and
  /// 0 for t in [count, 64). Returns the factor exp(*top - new_top) that what was summed before
  /// must be multiplied by, having done so with *sum. *top starts as -infinity and *sum as 0. The
  /// exponential and the tangent are within 2 ulp, the exponential 0 below exp(-87.3).
  float (*softmax_page)(float* s, int64_t count, float scale, float cap, float* top, float* sum);
  /// x[i] = round(x[i] / divisor), or unrounded.
  void (*divide)(float* x, int64_t count, float divisor, bool round);
  /// to[i] = from[i]; `from` bfloat16s or floats.
  void (*widen)(const void* from, bool is_bf16, int64_t count, float* to);
  /// to[i] = the nearest bfloat16 of from[i], as ToBf16 rounds.
  void (*narrow)(const float* from, int64_t count, void* to);
  /// to[c * to_row + r] = from[r * from_row + c].
  void (*transpose)(const float* from, int64_t from_row, int64_t rows, int64_t columns, float* to,
                    int64_t to_row);
};

extern const BlockOps kBlockOpsAvx2;
extern const BlockOps kBlockOpsAvx512;

}  // namespace sluice
