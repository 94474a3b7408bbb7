#include "base/team.h"

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>

#include "base/check.h"
#include "base/trace.h"

namespace sluice {
namespace {

// Polls before a waiter gives its time slice away or sleeps. A poll is a `pause`, some 40-140
// cycles, so helpers sleep after about 0.1 ms without work: longer than any gap inside a step.
constexpr int kSpinsBeforeYield = 2000;
constexpr int kYieldsBeforeSleep = 50;

// Spins, then yields (neighbours may hold the processor that the last lane needs).
template <class Done>
void SpinUntil(Done&& done) {
  for (int spins = 0; !done(); ++spins) {
    if (spins < kSpinsBeforeYield)
      _mm_pause();
    else
      sched_yield();
  }
}

// What the process may use. Read once, before anything is bound: a thread inherits the mask of the
// one that starts it, so a later look could see a single processor.
const cpu_set_t& AllowedProcessors() {
  static const cpu_set_t allowed = [] {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) CPU_ZERO(&set);
    return set;
  }();
  return allowed;
}

void BindTo(const cpu_set_t& set) { pthread_setaffinity_np(pthread_self(), sizeof set, &set); }

void PinTo(int nth) {
  const cpu_set_t& allowed = AllowedProcessors();
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || nth-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    return BindTo(one);
  }
}

}  // namespace

Team::Team(int lanes, bool pin) : lanes_(lanes) {
  CHECK_GE(lanes, 1);
  if (pin) AllowedProcessors();
  for (int lane = 1; lane < lanes; ++lane)
    helpers_.emplace_back([this, lane, pin] {
      if (pin) PinTo(lane);
      trace::NameThread(fmt::format("lane {}", lane));
      HelperLoop(lane);
    });
}

Team::~Team() {
  stop_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

PinnedCaller::PinnedCaller() { PinTo(0); }

PinnedCaller::~PinnedCaller() {
  if (CPU_COUNT(&AllowedProcessors()) > 0) BindTo(AllowedProcessors());
}

void Team::RunErased(Erased function, void* argument) {
  if (lanes_ == 1) {
    function(argument, 0);
    return;
  }
  function_ = function;
  argument_ = argument;
  running_.store(lanes_ - 1, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();  // a system call only if a helper sleeps
  function(argument, 0);
  const trace::Stage waiting("waiting");
  SpinUntil([this] { return running_.load(std::memory_order_acquire) == 0; });
}

void Team::WaitForWork(uint32_t seen) const {
  const trace::Stage waiting("waiting");
  for (int spins = 0; generation_.load(std::memory_order_acquire) == seen; ++spins) {
    if (spins < kSpinsBeforeYield)
      _mm_pause();
    else if (spins < kSpinsBeforeYield + kYieldsBeforeSleep)
      sched_yield();
    else
      generation_.wait(seen, std::memory_order_acquire);
  }
}

void Team::HelperLoop(int lane) {
  uint32_t seen = 0;
  for (;;) {
    WaitForWork(seen++);
    if (stop_.load(std::memory_order_relaxed)) return;
    function_(argument_, lane);
    running_.fetch_sub(1, std::memory_order_release);
  }
}

bool Team::ArriveLast() {
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) < lanes_ - 1) return false;
  arrived_.store(0, std::memory_order_relaxed);
  barrier_.fetch_add(1, std::memory_order_release);
  return true;
}

void Team::WaitFor(uint32_t generation) {
  const trace::Stage waiting("waiting");
  SpinUntil([&] { return barrier_.load(std::memory_order_acquire) != generation; });
}

}  // namespace sluice
