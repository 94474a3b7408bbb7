#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace sluice {
namespace {

// Opens without blocking on FIFOs and refuses everything but regular files.
Result<int> OpenRegular(const std::string& path, struct stat* info) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return Error(Code::kNotFound, "{}: {}", path, std::strerror(errno));
  if (fstat(fd, info) != 0 || !S_ISREG(info->st_mode)) {
    close(fd);
    return Error(Code::kBadCheckpoint, "{}: not a regular file", path);
  }
  return fd;
}

int64_t ModifiedNs(const struct stat& info) {
  return int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
}

}  // namespace

Result<MappedFile> MappedFile::Open(const std::string& path) {
  TRY(MappedFile file, OpenUnmapped(path));
  RETURN_IF_ERROR(file.Map());
  return file;
}

Result<MappedFile> MappedFile::OpenUnmapped(const std::string& path) {
  struct stat info;
  TRY(const int fd, OpenRegular(path, &info));
  MappedFile file;
  file.path_ = path;
  file.fd_ = fd;
  file.size_ = static_cast<uint64_t>(info.st_size);
  file.modified_ns_ = ModifiedNs(info);
  return file;
}

Status MappedFile::Map() {
  if (data_ || size_ == 0) return {};
  void* mapping = mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd_, 0);
  if (mapping == MAP_FAILED)
    return Error(Code::kOutOfMemory, "{}: mapping {} bytes failed: {}", path_, size_,
                 std::strerror(errno));
  data_ = static_cast<const std::byte*>(mapping);
  return {};
}

Status MappedFile::ReadAt(uint64_t offset, std::span<std::byte> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t got =
        pread(fd_, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      return Error(Code::kBadCheckpoint, "{}: reading at offset {} failed: {}", path_,
                   offset + done, got < 0 ? std::strerror(errno) : "end of file");
    done += static_cast<size_t>(got);
  }
  return {};
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(modified_ns_, other.modified_ns_);
  std::swap(fd_, other.fd_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_) munmap(const_cast<std::byte*>(data_), size_);
  if (fd_ >= 0) close(fd_);
}

uint64_t MappedFile::SizeOnDisk() const {
  struct stat info;
  return fstat(fd_, &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
}

Status MappedFile::CheckUnchanged() const {
  struct stat info;
  if (fstat(fd_, &info) != 0)
    return Error(Code::kBadCheckpoint, "{}: {}", path_, std::strerror(errno));
  if (static_cast<uint64_t>(info.st_size) != size_)
    return Error(Code::kBadCheckpoint, "{}: changed while in use: {} bytes, was opened with {}",
                 path_, info.st_size, size_);
  if (ModifiedNs(info) != modified_ns_)
    return Error(Code::kBadCheckpoint, "{}: was written to while in use", path_);
  return {};
}

Result<std::string> ReadFile(const std::string& path, uint64_t bytes_max) {
  struct stat info;
  TRY(const int fd, OpenRegular(path, &info));
  const auto size = static_cast<uint64_t>(info.st_size);
  if (size > bytes_max) {
    close(fd);
    return Error(Code::kTooLarge, "{}: {} bytes, allowed are {}", path, size, bytes_max);
  }
  std::string text(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t got = read(fd, text.data() + done, size - done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    done += static_cast<size_t>(got);
  }
  const int read_errno = errno;
  close(fd);
  if (done < size)
    return Error(Code::kBadCheckpoint, "{}: read {} of {} bytes: {}", path, done, size,
                 std::strerror(read_errno));
  return text;
}

}  // namespace sluice
