// What the engine knows of a model: token ids, pages and slots in, rows of logits out.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "memory/cache_layout.h"
#include "memory/pools.h"
#include "tensor/exec.h"
#include "tensor/view.h"

namespace sluice {

/// One request's share of a step: rows [row_begin, row_begin + row_count) of the batch are its
/// positions position_begin, position_begin + 1, ...
struct SequenceStep {
  int32_t slot;  // in the recurrent pool
  int64_t row_begin;
  int64_t row_count;       // >= 1
  int64_t position_begin;  // absolute
  int64_t prompt_length;   // positions below it came with the prompt, the others were generated;
                           // stays the same when a retracted request is recomputed
  const int32_t* pages;    // page table, covers every position up to the last of this step
};

/// Sees intermediate values, for tests: name ("attn_out", "residual", ...), layer (-1: none), rows.
using DebugTap = std::function<void(std::string_view name, int layer, View<const float, 2> rows)>;

/// One ragged step of prefill chunks and single tokens. The order of sequences changes no bit.
struct Batch {
  std::span<const int32_t> tokens;     // [rows], ids in the vocabulary
  std::span<const int32_t> positions;  // [rows], absolute
  std::span<const SequenceStep> sequences;
  std::span<const int32_t> output_rows;  // rows whose final hidden state is wanted
  const DebugTap* tap = nullptr;
};

struct CachePools {
  KvPagePool* kv;
  RecurrentPool* recurrent;
};

struct ModelInfo {
  std::string architecture;
  std::string model_type;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t layers = 0;
  int64_t linear_layers = 0;
  int64_t max_position = 0;   // max_position_embeddings
  uint64_t weight_bytes = 0;  // packed, in memory
  uint64_t parameters = 0;
  uint64_t active_parameters = 0;      // touched by one token
  std::vector<int32_t> eos_token_ids;  // config.json's; generation_config.json may name more
  Rounding rounding = Rounding::kBf16;
};

/// Immutable after loading; Forward and Logits may not run concurrently on one Exec.
class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelInfo& info() const = 0;
  virtual const CacheLayout& cache_layout() const = 0;

  /// Scratch bytes that Forward may take for a step of at most `rows` rows, and Logits for
  /// `output_rows`, on a team of `lanes`.
  virtual uint64_t ScratchBytes(int64_t rows, int64_t output_rows, int lanes) const = 0;

  /// Runs every layer, updates the pools, and writes the normed hidden states of the wanted rows:
  /// hidden [output_rows, hidden_size].
  virtual void Forward(const Batch& batch, const CachePools& pools, View<float, 2> hidden,
                       Exec& exec) const = 0;

  /// logits[i] = hidden[i] lm_head^T, in fp32: [rows, vocab_size]. Callers choose how many rows at
  /// a time; prompt log-probabilities never need more than a chunk.
  virtual void Logits(View<const float, 2> hidden, View<float, 2> logits, Exec& exec) const = 0;
};

}  // namespace sluice
