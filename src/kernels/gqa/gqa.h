// Grouped-query attention over paged keys and values: prefill chunks and single tokens alike.
#pragma once

#include <span>
#include <vector>

#include "kernels/kv_page.h"
#include "tensor/dtype.h"
#include "tensor/exec.h"
#include "tensor/view.h"

namespace sluice {

struct GqaShape {
  int64_t heads;     // of queries; a multiple of kv_heads
  int64_t kv_heads;  // head h reads keys and values of kv head h / (heads / kv_heads)
  int64_t head_dim;  // of queries, keys and values
};

/// One layer's keys and values. A page holds for each kv head its 64 keys, then its 64 values, so
/// that a head's page is read in one piece; sizes and the order inside are kv_layout.h's.
struct KvCache {
  std::byte* base;      // page 0 of this layer
  int64_t page_stride;  // bytes from page to page
  DType dtype;          // kBf16, or kF32 with --dtype float32
};

struct GqaSequence {
  int64_t row_begin;
  int64_t row_count;
  int64_t position_begin;  // absolute position of the first row
  const int32_t* pages;    // page table: position p lies in pages[p / 64], row p % 64
};

/// Rows written to the pages: keys (normed, rotated) and values.
struct GqaStoreArgs {
  View<const float, 3> key;    // [rows, kv_heads, head_dim]
  View<const float, 3> value;  // [rows, kv_heads, head_dim]
  GqaShape shape;
  KvCache cache;
  std::span<const GqaSequence> sequences;
};
void GqaStore(const GqaStoreArgs& args, Exec& exec);

/// Causal attention of each row over positions 0 .. its own (which GqaStore has written):
///   s_j = scale (q . k_j);  softcap > 0: s_j = softcap tanh(s_j / softcap);
///   temperature_length > 0: s_j *= log2(p) / log2(temperature_length) where the query's position p
///   exceeds it;  o = round( sum_j softmax(s)_j v_j )
/// Softmax in fp32, page by page on the absolute page grid, partial results of fixed spans of pages
/// combined in order: a row's bits depend on its request's history only, never on chunking, the
/// other requests or the lanes. Source of cap and temperature: Grok-2 as SGLang computes it.
struct GqaArgs {
  GqaShape shape;
  float scale;
  float softcap = 0;
  int64_t temperature_length = 0;  // 0 or >= 2
  View<const float, 3> q;          // [rows, heads, head_dim], normed and rotated
  KvCache cache;
  std::span<const GqaSequence> sequences;
  Rounding rounding;
  bool bf16_inputs;    // as in LinearArgs
  View<float, 3> out;  // [rows, heads, head_dim]; overlaps no input
};
/// By the fastest variant for `exec.machine`. Errors: none; the model fixed the shapes at load, so
/// they are CHECKed.
void Gqa(const GqaArgs& args, Exec& exec);

/// Scratch bytes that a step of `rows` rows may take from the arena on a team of `lanes`.
uint64_t GqaScratchBytes(const GqaShape& shape, int64_t rows, int lanes);

/// Every variant this machine runs, best first; the last row is the double-precision reference.
std::vector<Variant<GqaArgs>> GqaVariants();

}  // namespace sluice
