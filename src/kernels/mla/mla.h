// Multi-head latent attention over paged latents: expanded for prompt positions, absorbed for
// generated ones.
#pragma once

#include <span>
#include <vector>

#include "formats/packed_matrix.h"
#include "kernels/kv_page.h"
#include "tensor/dtype.h"
#include "tensor/exec.h"
#include "tensor/view.h"

namespace sluice {

struct MlaShape {
  int64_t heads;
  int64_t nope;    // width of the part of a query/key head without rope
  int64_t rope;    // width of the shared rope key
  int64_t value;   // width of a value head
  int64_t latent;  // kv_lora_rank
};

/// One layer's latents: row t of page p is [latent | rope] values, c after its norm and the key
/// after rope. Pages of a request are anywhere in the pool; its page table says where.
struct LatentCache {
  std::byte* base;      // page 0 of this layer
  int64_t page_stride;  // bytes from page to page
  DType dtype;          // kBf16, or kF32 with --dtype float32
};

/// kv_b_proj [heads * (nope + value), latent] (per head: nope rows, then value rows), packed for
/// both forms.
class MlaWeights {
 public:
  /// Errors: kOutOfMemory.
  static Result<MlaWeights> Allocate(const MlaShape& shape);
  template <class T>
  void Pack(View<const T, 2> kv_b);
  const PackedMatrix& expand(int64_t head) const {
    return expand_[head];
  }  // latent -> nope + value
  const PackedMatrix& absorb_key(int64_t head) const {
    return absorb_key_[head];
  }  // nope -> latent
  const PackedMatrix& absorb_value(int64_t head) const {
    return absorb_value_[head];
  }  // latent -> value
  uint64_t bytes() const;

 private:
  MlaShape shape_{};
  std::vector<PackedMatrix> expand_, absorb_key_, absorb_value_;  // [heads]
};

struct MlaSequence {
  int64_t row_begin;
  int64_t row_count;
  int64_t position_begin;  // absolute position of the first row
  int64_t prompt_length;   // positions below it use the expanded form, the others the absorbed one
  const int32_t* pages;    // page table: position p lies in pages[p / 64], row p % 64
};

/// Rows written to the pages: latents (normed) and rope keys (rotated).
struct MlaStoreArgs {
  View<const float, 2> latent;  // [rows, latent]
  View<const float, 2> key;     // [rows, rope]
  LatentCache cache;
  std::span<const MlaSequence> sequences;
};
void MlaStore(const MlaStoreArgs& args, Exec& exec);

/// Causal attention of each row over positions 0 .. its own (which MlaStore has written).
///   expanded:  [k_nope | v] = round(W c_j) per head; s_j = scale (q_nope.k_nope_j +
///   q_rope.k_rope_j);
///              o = round( sum_j softmax(s)_j v_j )
///   absorbed:  ql = round(UK^T q_nope); s_j = scale (ql.c_j + q_rope.k_rope_j);
///              ol = round( sum_j softmax(s)_j c_j ); o = round(UV ol)
/// Softmax in fp32, accumulated page by page on the absolute page grid: a row's bits depend on its
/// request's history and its form only. Source: DeepSeek-V2 (arXiv 2405.04434).
struct MlaArgs {
  MlaShape shape;
  float scale;
  View<const float, 3> q;  // [rows, heads, nope + rope], rope part rotated
  const MlaWeights* weights;
  LatentCache cache;
  std::span<const MlaSequence> sequences;
  Rounding rounding;
  bool bf16_inputs;    // as in LinearArgs
  View<float, 3> out;  // [rows, heads, value]; overlaps no input
};
void Mla(const MlaArgs& args, Exec& exec);

/// Scratch bytes that a step of `rows` rows may take from the arena on a team of `lanes`.
uint64_t MlaScratchBytes(const MlaShape& shape, int64_t rows, int lanes);

/// Every variant this machine runs, best first; the last row is the double-precision reference.
std::vector<Variant<MlaArgs>> MlaVariants();

}  // namespace sluice
