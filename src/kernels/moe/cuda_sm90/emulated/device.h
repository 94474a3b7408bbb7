// A GPU's threads as fibers on one thread of the CPU, in an order that a seed decides: threads run
// until they wait or an instruction lets another one go first, so every instruction of
// instructions.h and every barrier is a place where the order may change.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace sluice::emulated {

inline constexpr int kWarpLanes = 32, kWarpgroupThreads = 128, kNamedBarriers = 16;
/// Shared memory addresses begin behind what the system keeps for itself.
inline constexpr uint32_t kSharedBegin = 1024, kSharedMax = 227 * 1024;

struct Warpgroup;  // products.h
struct Cta;

/// What a thread waits for, for whoever asks why nothing moves any more.
struct Wait {
  const char* what = "";
  const void* on = nullptr;  // WakeAll of it ends the wait
  int64_t idx = 0, found = 0, needed = 0;
};

/// What a lane brings to an operation of its warp.
struct WarpPart {
  int kind = 0;  // 0: none
  uint32_t mask = 0, value = 0;
  std::array<uint32_t, kWarpLanes> gathered = {};  // every lane's value, when all have come
};

/// What products in flight mean for one thread.
struct ThreadProducts {
  int64_t issued = 0;               // of the warpgroup's products
  std::vector<int64_t> group_ends;  // `issued` at every commit since the last full wait
  float* sums = nullptr;            // its registers; nullptr: none in flight
  int count = 0;                    // of registers
  bool fenced = false;              // since it could last touch them
};

struct Thread {
  void* stack_pointer = nullptr;
  uint8_t* stack = nullptr;
  Cta* cta = nullptr;
  int idx = 0;
  bool blocked = false, done = false;
  Wait wait;
  WarpPart part;
  ThreadProducts products;

  int warp() const { return idx / kWarpLanes; }
  int lane() const { return idx % kWarpLanes; }
};

struct NamedBarrier {
  int threads = 0;
  std::vector<Thread*> waiting;
};

struct Cta {
  int idx = 0;
  unsigned x = 0, y = 0;  // blockIdx
  int live = 0;
  std::vector<Thread> threads;
  std::array<NamedBarrier, kNamedBarriers> barriers;
  std::vector<std::unique_ptr<Warpgroup>> warpgroups;
  uint8_t* shared = nullptr;  // 1,024-byte aligned, kSharedMax
};

// ---- For instructions: inside a kernel. ----

Thread& Here();
/// A place where another thread may go first.
void Step();
/// The same, for certain.
void Yield();
void Block(const Wait& wait);
void WakeAll(const void* on);
uint64_t RandomBelow(uint64_t bound);
/// Ends the launch: `why` goes to stderr, the launch has failed.
[[noreturn]] void Trap(const std::string& why);
/// Begins something that goes on by itself: `part` is called at random moments, also when every
/// thread waits, until it returns false.
void GoOn(std::function<bool()> part);
/// Counts upwards; every look is a tick.
uint64_t Ticks();

/// Traps unless [address, address + bytes) lies in this CTA's shared memory.
uint8_t* SharedMemory(uint32_t address, uint32_t bytes);
uint32_t SharedAddressOf(const void* p);

/// Waits until all lanes of `mask` have come with the same kind and mask; what each brought.
const std::array<uint32_t, kWarpLanes>& WarpExchange(int kind, uint32_t mask, uint32_t value);
/// Of whole warps. threads 0: all of the CTA.
void CtaBarrier(int id, int threads);

// ---- For the runtime. ----

struct LaunchShape {
  unsigned grid_x = 1, grid_y = 1;
  int threads = 1;
  uint32_t shared_bytes = 0;
  bool cooperative = false;  // all CTAs at once, or failure
};
enum class LaunchEnd { kDone, kTrapped, kDeadlock };

/// Runs it to its end. `kernel` is called by every thread.
LaunchEnd RunLaunch(const LaunchShape& shape, const std::function<void()>& kernel);

/// Multiprocessors: CTAs that are there at the same time.
inline constexpr int kProcessors = 8;
/// A launch's order follows from this and from the number of launches since. At the beginning it is
/// what SLUICE_EMULATED_SEED says, or 1.
void SeedLaunches(uint64_t seed);
/// What the last launch that failed said, with its number and seed.
const std::string& LastTrap();

}  // namespace sluice::emulated
