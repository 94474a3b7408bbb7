// Lightning linear attention: gated linear attention with one constant decay per head, on an
// absolute block grid.
#pragma once

#include <span>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/exec.h"
#include "tensor/view.h"

namespace sluice {

/// Tokens a block: block b holds positions [B b, B b + B). See README.md for the measurement.
inline constexpr int64_t kGlaBlock = 32;

/// One request's rows of a step and its memory. Positions are absolute, so block borders do not
/// depend on how a prompt was cut. At position p of block b, `state` is S_b, the state after all
/// positions before the block (block 0: zero by definition, the memory is not read), and rows
/// [0, p mod B) of `keys` and `values` are the block's earlier keys and values. Rows past that are
/// never read before they are written.
struct GlaSequence {
  int64_t row_begin;       // first row of q, k, v and out
  int64_t row_count;       // >= 0
  int64_t position_begin;  // absolute position of the first row
  float* state;            // [heads, key_dim, value_dim]
  float* keys;             // [heads, kGlaBlock, key_dim]
  void* values;            // [heads, kGlaBlock, value_dim] of value_dtype
};

/// Per head with decay exponent g <= 0, and token i (block-local) of block b, B = kGlaBlock:
///   out_i = scale * ( exp(g (i + 1)) q_i S_b + sum_{j <= i} exp(g (i - j)) (q_i . k_j) v_j )
///   S_{b+1} = exp(B g) S_b + sum_j exp(g (B - 1 - j)) k_j^T v_j        at the block's end
/// which equals the recurrence S = exp(g) S + k^T v, out = scale * q S. fp32 throughout, `out`
/// unrounded. A row's bits depend on its request's history only: not on chunking, batch or lanes.
/// Source: Lightning Attention-2 (arXiv 2401.04658), GLA (arXiv 2312.06635).
struct GlaArgs {
  View<const float, 3> q, k, v;  // [rows, heads, dim]; normed and rotated, not scaled
  const float* decay;            // [heads], g: natural log of the decay per token, <= 0
  float scale;                   // head_dim ^ -0.5
  DType value_dtype;             // of the value buffers: kBf16 if v holds bfloat16s, else kF32
  std::span<const GlaSequence> sequences;
  View<float, 3> out;  // [rows, heads, value_dim]; overlaps no input
};

/// Writes `out`, appends to the buffers and advances states at block ends.
/// Errors: none; shapes are CHECKed. Work is split over (sequence, head).
void Gla(const GlaArgs& args, Exec& exec);

/// Every variant this machine runs, best first; the last row is the double-precision reference.
std::vector<Variant<GlaArgs>> GlaVariants();

/// The definition, token by token in double: S = exp(g) S + k^T v; out = scale * q S. One sequence;
/// `state` [heads, key_dim, value_dim] is read and updated. What tests compare everything with.
void GlaRecurrence(View<const float, 3> q, View<const float, 3> k, View<const float, 3> v,
                   const float* decay, float scale, double* state, View<double, 3> out);

/// The state after `length` positions (S_b plus the partial block), as the recurrence would have
/// it: for prefix snapshots and tests. `length` is what the sequence's memory holds now; only
/// state, keys and values of `sequence` are used. out: [heads, key_dim, value_dim].
void GlaExportState(const float* decay, int64_t heads, int64_t key_dim, int64_t value_dim,
                    DType value_dtype, const GlaSequence& sequence, int64_t length, float* out);

}  // namespace sluice
