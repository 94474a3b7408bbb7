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

  /// The same file without its mapping, so that its head can be read and its size compared first;
  /// data() is null until Map(). ReadAt reads exactly `out.size()` bytes from `offset`.
  static Result<MappedFile> OpenUnmapped(const std::string& path);
  Status ReadAt(uint64_t offset, std::span<std::byte> out) const;
  Status Map();

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }
  const std::byte* data() const { return data_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

  /// The file's size on disk now; a smaller value than size() means that it was truncated.
  uint64_t SizeOnDisk() const;

  /// kBadCheckpoint with both sizes if the file is no longer what was opened: other size or time of
  /// modification. A file that was replaced by a new one of its name stays as it was here.
  Status CheckUnchanged() const;

 private:
  MappedFile() = default;
  std::string path_;
  const std::byte* data_ = nullptr;
  uint64_t size_ = 0;
  int64_t modified_ns_ = 0;
  int fd_ = -1;
};

/// The whole of a small regular file. Errors: kNotFound, kTooLarge over `bytes_max`.
Result<std::string> ReadFile(const std::string& path, uint64_t bytes_max);

}  // namespace sluice
