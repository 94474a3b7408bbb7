// What a model keeps per token and per request; the pools are built from it.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace sluice {

/// Tokens a KV page.
inline constexpr int64_t kPageTokens = 64;

struct CacheLayout {
  // Per token, in the full-attention layers only.
  int64_t kv_layers = 0;
  int64_t kv_row_bytes = 0;  // a token's row in one layer

  // Per request: for each linear-attention layer a float state and the current block's buffers.
  int64_t recurrent_layers = 0;
  int64_t heads = 0;
  int64_t key_dim = 0;
  int64_t value_dim = 0;
  int64_t block_tokens = 0;
  DType value_dtype = DType::kBf16;  // of the value buffers

  int64_t PageBytesPerLayer() const { return kPageTokens * kv_row_bytes; }
  int64_t PageBytes() const { return kv_layers * PageBytesPerLayer(); }
  // The parts of a slot, each rounded up to a cache line.
  int64_t StateBytesPerLayer() const { return Lines(heads * key_dim * value_dim * 4); }
  int64_t KeyBufferBytesPerLayer() const { return Lines(heads * block_tokens * key_dim * 4); }
  int64_t ValueBufferBytesPerLayer() const {
    return Lines(heads * block_tokens * value_dim * DTypeBytes(value_dtype));
  }
  int64_t SlotBytesPerLayer() const {
    return StateBytesPerLayer() + KeyBufferBytesPerLayer() + ValueBufferBytesPerLayer();
  }
  int64_t SlotBytes() const { return recurrent_layers * SlotBytesPerLayer(); }

 private:
  static constexpr int64_t Lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }
};

}  // namespace sluice
