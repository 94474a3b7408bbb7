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

}  // namespace

Result<MappedFile> MappedFile::Open(const std::string& path) {
  struct stat info;
  TRY(const int fd, OpenRegular(path, &info));
  MappedFile file;
  file.path_ = path;
  file.fd_ = fd;
  file.size_ = static_cast<uint64_t>(info.st_size);
  if (file.size_ > 0) {
    void* mapping = mmap(nullptr, file.size_, PROT_READ, MAP_SHARED, fd, 0);
    if (mapping == MAP_FAILED)
      return Error(Code::kOutOfMemory, "{}: mapping {} bytes failed: {}", path, file.size_,
                   std::strerror(errno));
    file.data_ = static_cast<const std::byte*>(mapping);
  }
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
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
