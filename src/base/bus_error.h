// Reading a mapped file that may shrink meanwhile. The kernel answers an access past the new end
// (or a read error of the disk) with SIGBUS, which would end the process with a crash report; a
// scope turns it into an offset that the reader can report.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace sluice {

/// While it lives, a SIGBUS on this thread inside `mapping` (a whole file mapping, as mmap returned
/// it) replaces everything from the faulting page to the mapping's end by zeros and is remembered.
/// The reader then goes on, computes nonsense, and asks failed_at() at the end: no stack is unwound
/// past its destructors. Afterwards the mapping is damaged for every thread and must not be used.
///
/// The handler is installed once for the process and passes every other SIGBUS on to the one that
/// was there before. Scopes nest; only the innermost one is looked at.
class BusErrorScope {
 public:
  explicit BusErrorScope(std::span<const std::byte> mapping);
  ~BusErrorScope();
  BusErrorScope(const BusErrorScope&) = delete;
  BusErrorScope& operator=(const BusErrorScope&) = delete;

  /// Offset in the mapping of the first byte that could not be read, if any.
  std::optional<uint64_t> failed_at() const;

 private:
  uintptr_t outer_begin_, outer_end_;
  uint64_t outer_failed_at_;
};

}  // namespace sluice
