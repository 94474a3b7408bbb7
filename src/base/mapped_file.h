// A read-only memory-mapped file, and small files read whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"

namespace sluice {

/// Owns one mapping. The bytes stay valid while the object lives. A file that shrinks while it is
/// mapped raises SIGBUS on access: readers compare SizeOnDisk() with size() around long reads.
class MappedFile {
 public:
  /// Errors: kNotFound or kBadCheckpoint (not a regular file, unreadable), naming the path.
  static Result<MappedFile> Open(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }
  const std::byte* data() const { return data_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

  /// The file's size on disk now; a smaller value than size() means that it was truncated.
  uint64_t SizeOnDisk() const;

 private:
  MappedFile() = default;
  std::string path_;
  const std::byte* data_ = nullptr;
  uint64_t size_ = 0;
  int fd_ = -1;
};

/// The whole of a small regular file. Errors: kNotFound, kTooLarge over `bytes_max`.
Result<std::string> ReadFile(const std::string& path, uint64_t bytes_max);

}  // namespace sluice
