// The two kinds of memory that requests own: KV pages and recurrent slots.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "memory/cache_layout.h"
#include "tensor/arena.h"

namespace sluice {

/// Fixed-size pages of 64 tokens, all full-attention layers of a page under one number. One owner
/// (the engine's thread) allocates and frees; kernels read and write through LayerBase.
class KvPagePool {
 public:
  /// Errors: kOutOfMemory. A layout without KV layers gives a pool whose pages hold nothing.
  static Result<KvPagePool> Create(const CacheLayout& layout, int64_t pages);

  int64_t page_count() const { return page_count_; }
  int64_t free_count() const { return static_cast<int64_t>(free_.size()); }

  /// A page number, or -1 if none is free. Lowest numbers first, so few pages are ever touched.
  int32_t Allocate();
  void Free(int32_t page);  // CHECKs that it was allocated

  /// Zeroes a page in every layer: what a request with a numeric fault wrote must not be read
  /// again.
  void Clear(int32_t page);

  /// Page 0 of a layer; page p lies p * page_stride() bytes further.
  std::byte* LayerBase(int64_t layer) const;
  int64_t page_stride() const { return layout_.PageBytesPerLayer(); }
  uint64_t bytes() const { return buffer_.size(); }

 private:
  CacheLayout layout_;
  int64_t page_count_ = 0;
  std::vector<int32_t> free_;  // a min-heap
  std::vector<bool> allocated_;
  Buffer buffer_;
};

/// One slot a running request: the state and block buffers of every linear-attention layer. A slot
/// needs no clearing: a request's first block never reads the state (kernels/gla/gla.h).
class RecurrentPool {
 public:
  /// Errors: kOutOfMemory.
  static Result<RecurrentPool> Create(const CacheLayout& layout, int64_t slots);

  int64_t slot_count() const { return slot_count_; }
  int64_t free_count() const { return static_cast<int64_t>(free_.size()); }
  int32_t Allocate();  // -1 if none is free
  void Free(int32_t slot);
  void Clear(int32_t slot);  // zeroes it, as KvPagePool::Clear

  float* State(int32_t slot, int64_t layer) const;  // [heads, key_dim, value_dim]
  float* Keys(int32_t slot, int64_t layer) const;   // [heads, block_tokens, key_dim]
  void* Values(int32_t slot, int64_t layer) const;  // [heads, block_tokens, value_dim]
  uint64_t bytes() const { return buffer_.size(); }

 private:
  std::byte* Layer(int32_t slot, int64_t layer) const;
  CacheLayout layout_;
  int64_t slot_count_ = 0;
  std::vector<int32_t> free_;
  std::vector<bool> allocated_;
  Buffer buffer_;
};

}  // namespace sluice
