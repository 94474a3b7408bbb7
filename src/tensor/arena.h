// Memory that is asked for once and handed out in pieces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/check.h"
#include "base/status.h"
#include "tensor/view.h"

namespace sluice {

/// Page-aligned memory straight from the kernel, 2 MiB pages where it grants them. Untouched pages
/// cost nothing, and are zero when first read.
class Buffer {
 public:
  Buffer() = default;
  /// Errors: kOutOfMemory, naming `what` and the size.
  static Result<Buffer> Allocate(uint64_t bytes, const char* what);
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  std::byte* data() const { return data_; }
  uint64_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
};

/// Hands out 64-byte aligned scratch memory in stack order. Sized at load for the largest step; to
/// need more is our mistake, so it is CHECKed. Not thread-safe: lane 0 allocates, lanes share.
class Arena {
 public:
  Arena() = default;
  explicit Arena(Buffer buffer) : buffer_(std::move(buffer)) {}

  /// Uninitialised memory for `count` elements, valid until the enclosing Scope ends.
  template <class T>
  T* Allocate(int64_t count) {
    CHECK_GE(count, 0);
    const uint64_t bytes = (static_cast<uint64_t>(count) * sizeof(T) + 63) / 64 * 64;
    CHECK_LE(bytes, buffer_.size() - used_);
    std::byte* memory = buffer_.data() + used_;
    used_ += bytes;
    if (used_ > used_max_) used_max_ = used_;
    return reinterpret_cast<T*>(memory);
  }

  template <class T>
  View<T, 2> Matrix(int64_t rows, int64_t columns) {
    return {Allocate<T>(rows * columns), {rows, columns}};
  }

  uint64_t used() const { return used_; }
  uint64_t used_max() const { return used_max_; }
  uint64_t size() const { return buffer_.size(); }

  /// Gives back, at its end, everything allocated since its beginning.
  class Scope {
   public:
    explicit Scope(Arena& arena) : arena_(arena), used_(arena.used_) {}
    ~Scope() { arena_.used_ = used_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    uint64_t used_;
  };

 private:
  Buffer buffer_;
  uint64_t used_ = 0;
  uint64_t used_max_ = 0;
};

}  // namespace sluice
