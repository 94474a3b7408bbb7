#include "base/bus_error.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>

namespace sluice {
namespace {

constexpr uint64_t kNotFailed = ~uint64_t{0};

// What this thread reads now. Constant-initialised, so that the handler may touch it at any time.
struct Watched {
  std::atomic<uintptr_t> begin{0}, end{0};
  std::atomic<uint64_t> failed_at{kNotFailed};
};
thread_local constinit Watched watched;

struct sigaction previous;  // written once, before the handler is installed

// Everything from the page of `address` to the end of the watched mapping becomes zeros.
bool ReplaceByZeros(uintptr_t address, uintptr_t end) {
  const uintptr_t page_bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = address & ~(page_bytes - 1);
  const uintptr_t bytes = (end - begin + page_bytes - 1) & ~(page_bytes - 1);
  return mmap(reinterpret_cast<void*>(begin), bytes, PROT_READ,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

void PassOn(int signal, siginfo_t* info, void* context) {
  if (previous.sa_flags & SA_SIGINFO)
    previous.sa_sigaction(signal, info, context);
  else if (previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN)
    ::signal(SIGBUS, SIG_DFL);  // the access is repeated, and ends the process
  else
    previous.sa_handler(signal);
}

void OnBusError(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const uintptr_t address = reinterpret_cast<uintptr_t>(info->si_addr);
  const uintptr_t begin = watched.begin.load(std::memory_order_relaxed);
  const uintptr_t end = watched.end.load(std::memory_order_relaxed);
  if (address >= begin && address < end && ReplaceByZeros(address, end)) {
    if (watched.failed_at.load(std::memory_order_relaxed) == kNotFailed)
      watched.failed_at.store(address - begin, std::memory_order_relaxed);
  } else {
    PassOn(signal, info, context);
  }
  errno = saved_errno;
}

void InstallOnce() {
  static std::once_flag once;
  std::call_once(once, [] {
    sigaction(SIGBUS, nullptr, &previous);
    struct sigaction action = {};
    action.sa_sigaction = OnBusError;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, nullptr);
  });
}

void Watch(uintptr_t begin, uintptr_t end, uint64_t failed_at) {
  watched.begin.store(begin, std::memory_order_relaxed);
  watched.end.store(end, std::memory_order_relaxed);
  watched.failed_at.store(failed_at, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);  // reads of the mapping stay inside
}

}  // namespace

BusErrorScope::BusErrorScope(std::span<const std::byte> mapping)
    : outer_begin_(watched.begin), outer_end_(watched.end), outer_failed_at_(watched.failed_at) {
  InstallOnce();
  const auto begin = reinterpret_cast<uintptr_t>(mapping.data());
  Watch(begin, begin + mapping.size(), kNotFailed);
}

BusErrorScope::~BusErrorScope() {
  std::atomic_signal_fence(std::memory_order_seq_cst);
  Watch(outer_begin_, outer_end_, outer_failed_at_);
}

std::optional<uint64_t> BusErrorScope::failed_at() const {
  std::atomic_signal_fence(std::memory_order_seq_cst);
  const uint64_t offset = watched.failed_at.load(std::memory_order_relaxed);
  if (offset == kNotFailed) return {};
  return offset;
}

}  // namespace sluice
