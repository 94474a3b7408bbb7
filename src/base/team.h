// A team of threads that runs one function on all lanes at a time. The caller is lane 0; the other
// lanes spin briefly between calls and then sleep, so an idle server uses no processor time.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace sluice {

/// One caller at a time. Run() and Barrier() allocate nothing and make no system call while every
/// lane is awake.
class Team {
 public:
  /// `lanes` >= 1, the calling thread included. With `pin`, helper lane i is bound to the i-th
  /// processor of this process's affinity mask (lane 0 binds itself with PinnedCaller).
  explicit Team(int lanes, bool pin = false);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int lanes() const { return lanes_; }

  /// Calls function(lane) once on every lane and returns when all have returned. Not re-entrant.
  template <class F>
  void Run(F&& function) {
    using Function = std::remove_reference_t<F>;
    RunErased([](void* f, int lane) { (*static_cast<Function*>(f))(lane); },
              const_cast<void*>(static_cast<const void*>(&function)));
  }

  /// Splits [0, count) evenly and in order over the lanes: function(begin, end) for each share that
  /// is not empty. Shares are multiples of `grain` but for the last one.
  template <class F>
  void ParallelFor(int64_t count, int64_t grain, F&& function) {
    if (count <= 0) return;
    const int64_t units = (count + grain - 1) / grain;
    if (lanes_ == 1 || units == 1) {
      function(int64_t{0}, count);
      return;
    }
    Run([&](int lane) {
      const int64_t begin = units * lane / lanes_ * grain;
      const int64_t end = units * (lane + 1) / lanes_ * grain;
      if (begin < end && begin < count) function(begin, end < count ? end : count);
    });
  }

  /// The grain for work of so many elements a unit (a row, say): a share that is worth waking
  /// another lane for. A wake-up and the wait at the end cost about a microsecond, and several
  /// where other threads want the processor; elementwise work does some 8 elements a nanosecond.
  static int64_t GrainFor(int64_t elements_per_unit) {
    constexpr int64_t kElementsPerShare = 16384;
    return kElementsPerShare / (elements_per_unit < 1 ? 1 : elements_per_unit) + 1;
  }

  /// Waits until every lane has arrived. Only inside a function given to Run, by every lane.
  void Barrier() {
    Barrier([] { return false; });
  }

  /// The same; a lane that waits calls meanwhile(), a short piece of work, until that returns false
  /// or every lane has arrived.
  template <class F>
  void Barrier(F&& meanwhile) {
    if (lanes_ == 1) return;
    const uint32_t generation = barrier_.load(std::memory_order_relaxed);
    if (ArriveLast()) return;
    while (barrier_.load(std::memory_order_acquire) == generation)
      if (!meanwhile()) return WaitFor(generation);
  }

 private:
  using Erased = void (*)(void*, int);
  void RunErased(Erased function, void* argument);
  void HelperLoop(int lane);
  void WaitForWork(uint32_t seen) const;  // until generation_ is not `seen`
  bool ArriveLast();                      // true: the last one, which let all others go
  void WaitFor(uint32_t generation);      // until this barrier is over

  const int lanes_;
  Erased function_ = nullptr;
  void* argument_ = nullptr;
  alignas(64) std::atomic<uint32_t> generation_{0};  // bumped for every Run; helpers wait on it
  alignas(64) std::atomic<int> running_{0};          // helpers that have not returned yet
  alignas(64) std::atomic<int> arrived_{0};          // barrier: lanes that have arrived
  alignas(64) std::atomic<uint32_t> barrier_{0};     // barrier: its generation
  std::atomic<bool> stop_{false};
  std::vector<std::thread> helpers_;
};

/// While it lives, the thread that made it (lane 0 of a team with `pin`) is bound to the first
/// processor of the process's affinity mask.
class PinnedCaller {
 public:
  PinnedCaller();
  ~PinnedCaller();
  PinnedCaller(const PinnedCaller&) = delete;
  PinnedCaller& operator=(const PinnedCaller&) = delete;
};

}  // namespace sluice
