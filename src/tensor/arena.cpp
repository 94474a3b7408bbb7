#include "tensor/arena.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/units.h"

namespace sluice {

constexpr uint64_t kHugePageBytes = 2ull << 20;

Result<Buffer> Buffer::Allocate(uint64_t bytes, const char* what) {
  Buffer buffer;
  if (bytes == 0) return buffer;
  const bool huge = bytes >= kHugePageBytes;
  // Room to place the start on a huge-page border: the unaligned head and tail are given back.
  const uint64_t size = huge ? (bytes + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes
                             : (bytes + 4095) / 4096 * 4096;
  const uint64_t reserve = huge ? size + kHugePageBytes : size;
  if (reserve < bytes) return Error(Code::kOutOfMemory, "{}: {} bytes overflow", what, bytes);
  void* mapping = mmap(nullptr, reserve, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED)
    return Error(Code::kOutOfMemory, "{}: allocating {} failed: {}", what, FormatBytes(bytes),
                 std::strerror(errno));
  auto* start = static_cast<std::byte*>(mapping);
  if (huge) {
    const auto address = reinterpret_cast<uintptr_t>(start);
    const uint64_t head = (kHugePageBytes - address % kHugePageBytes) % kHugePageBytes;
    if (head > 0) munmap(start, head);
    if (kHugePageBytes - head > 0) munmap(start + head + size, kHugePageBytes - head);
    start += head;
    madvise(start, size, MADV_HUGEPAGE);  // a hint; refused where huge pages are off
  }
  buffer.data_ = start;
  buffer.size_ = size;
  return buffer;
}

Buffer::Buffer(Buffer&& other) noexcept { *this = std::move(other); }

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Buffer::~Buffer() {
  if (data_) munmap(data_, size_);
}

}  // namespace sluice
