#include "kernels/moe/cuda_sm90/emulated/device.h"

#include <cuda_runtime.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <unordered_map>

#include "base/check.h"
#include "base/random.h"
#include "kernels/moe/cuda_sm90/emulated/fiber.h"
#include "kernels/moe/cuda_sm90/emulated/products.h"

asm(R"(
.text
.globl sluice_switch_stack
.type sluice_switch_stack, @function
sluice_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size sluice_switch_stack, .-sluice_switch_stack
)");

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace sluice::emulated {
namespace {

constexpr size_t kStackBytes = 128 << 10;
// Tops of stacks lie apart by other than powers of two, which would share a few lines of the cache.
constexpr size_t kStackColours = 61, kStackColourBytes = 320;
constexpr uint64_t kCanary = 0x5ca1ab1e0ddba11;

// What makes an order unlike others.
enum class Order {
  kUniform,     // any thread that can go on
  kLastFirst,   // the thread that was woken last: some run far ahead
  kSlowWarp,    // one warp of one CTA stands nearly still
  kSlowRole,    // the same warp of every CTA
  kSlowCta,     // all of a CTA
  kLateCopies,  // what goes on by itself does so only when nothing else can
};
constexpr int kOrders = 6;

uint64_t SeedOfEnvironment() {
  const char* const text = std::getenv("SLUICE_EMULATED_SEED");
  return text ? std::strtoull(text, nullptr, 10) : 1;
}

class Device {
 public:
  LaunchEnd Run(const LaunchShape& shape, const std::function<void()>& kernel);

  Thread* current = nullptr;
  std::string trap;
  bool trapped = false;
  SplitMix64 random{1};
  uint64_t ticks = 0;

  // To the next thread, or where there is none, or more to do, to Run.
  void Leave() {
    Thread* const me = current;
    Thread* next = nullptr;
    if (!trapped && !me->done && to_start_.empty()) {
      if (!going_on_.empty() && order_ != Order::kLateCopies && random.Below(pace_) == 0)
        GoOnSomewhere();
      if (!runnable_.empty()) next = Next();
    }
    if (next == me) return;
    if (next) Become(*next);
    sluice_switch_stack(&me->stack_pointer, next ? next->stack_pointer : main_stack_pointer_);
  }
  void Runnable(Thread* thread) {
    thread->blocked = false;
    runnable_.push_back(thread);
  }
  void Seed(uint64_t seed) {
    seed_ = seed;
    launches_ = 0;
  }
  void Wait(const void* on, Thread* thread) { waiting_[on].push_back(thread); }
  void Wake(const void* on) {
    if (waiting_.empty()) return;
    const auto at = waiting_.find(on);
    if (at == waiting_.end()) return;
    for (Thread* thread : at->second) Runnable(thread);
    waiting_.erase(at);
  }
  void Add(std::function<bool()> part) { going_on_.push_back(std::move(part)); }
  void Enter();  // a fiber's first function

 private:
  void ChooseOrder();
  void StartCta();
  bool IsSlow(const Thread& thread) const {
    return (slow_cta_ < 0 || thread.cta->idx == slow_cta_) &&
           (slow_warp_ < 0 || thread.warp() == slow_warp_);
  }
  Thread* Next();
  void GoOnSomewhere();
  void Become(Thread& thread);
  void EndCta(Cta& cta);
  std::string WhoWaits() const;
  uint8_t* TakeStack();

  const std::function<void()>* kernel_ = nullptr;
  LaunchShape shape_;
  std::vector<std::unique_ptr<Cta>> ctas_;
  std::vector<int> to_start_;
  std::vector<Thread*> runnable_;
  std::unordered_map<const void*, std::vector<Thread*>> waiting_;
  std::vector<std::function<bool()>> going_on_;
  std::vector<uint8_t*> stacks_, shared_memories_;
  void* main_stack_pointer_ = nullptr;
  Order order_ = Order::kUniform;
  bool picky_ = false;
  uint64_t pace_ = 1;  // switches of threads to a part of what goes on by itself
  int slow_cta_ = -1, slow_warp_ = -1;
  uint64_t seed_ = SeedOfEnvironment(), launches_ = 0;
};

Device the_device;

uint8_t* Device::TakeStack() {
  if (stacks_.empty()) {
    constexpr size_t kAtOnce = 256;
    void* memory = mmap(nullptr, kAtOnce * kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(memory != MAP_FAILED);
    for (size_t i = 0; i < kAtOnce; ++i)
      stacks_.push_back(static_cast<uint8_t*>(memory) + i * kStackBytes);
  }
  uint8_t* const stack = stacks_.back();
  stacks_.pop_back();
  std::memcpy(stack, &kCanary, sizeof kCanary);
  return stack;
}

void Device::Enter() {
  (*kernel_)();
  Thread& me = *current;
  me.done = true;
  --me.cta->live;
  NamedBarrier& all = me.cta->barriers[0];  // which waits for those that are still there
  if (!all.waiting.empty() && all.threads == 0 &&
      static_cast<int>(all.waiting.size()) == me.cta->live) {
    for (Thread* thread : all.waiting) Runnable(thread);
    all.waiting.clear();
  }
  Leave();
  std::abort();
}
void EnterFiber() { the_device.Enter(); }

void Device::ChooseOrder() {
  random = SplitMix64(seed_ * 0x9E3779B97F4A7C15ull + launches_);
  order_ = static_cast<Order>((launches_ + seed_) % kOrders);
  ++launches_;
  pace_ = uint64_t{2} << 2 * random.Below(4);
  slow_cta_ = slow_warp_ = -1;
  const int ctas = static_cast<int>(shape_.grid_x * shape_.grid_y);
  if (order_ == Order::kSlowWarp || order_ == Order::kSlowCta)
    slow_cta_ = static_cast<int>(random.Below(static_cast<uint64_t>(ctas)));
  if (order_ == Order::kSlowWarp || order_ == Order::kSlowRole)
    slow_warp_ =
        static_cast<int>(random.Below(static_cast<uint64_t>(shape_.threads / kWarpLanes + 1)));
  picky_ = slow_cta_ >= 0 || slow_warp_ >= 0;
}

void Device::StartCta() {
  const size_t at = random.Below(to_start_.size());
  std::swap(to_start_[at], to_start_.back());
  ctas_.push_back(std::make_unique<Cta>());
  Cta& cta = *ctas_.back();
  cta.idx = to_start_.back();
  to_start_.pop_back();
  cta.x = static_cast<unsigned>(cta.idx) % shape_.grid_x;
  cta.y = static_cast<unsigned>(cta.idx) / shape_.grid_x;
  if (shared_memories_.empty())
    shared_memories_.push_back(static_cast<uint8_t*>(std::aligned_alloc(1024, kSharedMax)));
  cta.shared = shared_memories_.back();
  shared_memories_.pop_back();
  std::memset(cta.shared, 0xFF, kSharedMax);  // not-a-number in every format
  cta.live = shape_.threads;
  cta.threads.resize(static_cast<size_t>(shape_.threads));
  cta.warpgroups.resize(static_cast<size_t>(shape_.threads / kWarpgroupThreads));
  for (int i = 0; i < shape_.threads; ++i) {
    Thread& thread = cta.threads[static_cast<size_t>(i)];
    thread.cta = &cta;
    thread.idx = i;
    thread.stack = TakeStack();
    const size_t colour = static_cast<size_t>(cta.idx * 7 + i) % kStackColours;
    thread.stack_pointer =
        BeginStack(thread.stack, kStackBytes - colour * kStackColourBytes, EnterFiber);
    Runnable(&thread);
  }
}

void Device::EndCta(Cta& cta) {
  for (Thread& thread : cta.threads) {
    uint64_t canary;
    std::memcpy(&canary, thread.stack, sizeof canary);
    CHECK_EQ(canary, kCanary);
    stacks_.push_back(thread.stack);
  }
  shared_memories_.push_back(cta.shared);
}

Thread* Device::Next() {
  size_t at = random.Below(runnable_.size());
  if (order_ == Order::kLastFirst && random.Below(16) != 0) at = runnable_.size() - 1;
  for (int tries = 0; picky_ && tries < 100 && IsSlow(*runnable_[at]); ++tries)
    at = random.Below(runnable_.size());
  std::swap(runnable_[at], runnable_.back());
  Thread* const thread = runnable_.back();
  runnable_.pop_back();
  return thread;
}

void Device::GoOnSomewhere() {
  const size_t at = random.Below(going_on_.size());
  if (going_on_[at]()) return;
  std::swap(going_on_[at], going_on_.back());
  going_on_.pop_back();
}

void Device::Become(Thread& thread) {
  current = &thread;
  threadIdx = {static_cast<unsigned>(thread.idx), 0, 0};
  blockIdx = {thread.cta->x, thread.cta->y, 0};
  ++ticks;
}

LaunchEnd Device::Run(const LaunchShape& shape, const std::function<void()>& kernel) {
  shape_ = shape;
  kernel_ = &kernel;
  blockDim = dim3(static_cast<unsigned>(shape.threads));
  gridDim = dim3(shape.grid_x, shape.grid_y);
  ChooseOrder();
  trapped = false;
  const int ctas = static_cast<int>(shape.grid_x * shape.grid_y);
  for (int i = 0; i < ctas; ++i) to_start_.push_back(i);
  LaunchEnd end = LaunchEnd::kDone;
  while (true) {
    while (!to_start_.empty() && ctas_.size() < kProcessors) StartCta();
    if (ctas_.empty()) {
      if (going_on_.empty()) break;
      end = LaunchEnd::kTrapped;
      trap = "the launch ended before its copies";
      break;
    }
    if (!going_on_.empty() &&
        (runnable_.empty() || (order_ != Order::kLateCopies && random.Below(pace_) == 0))) {
      GoOnSomewhere();
      continue;
    }
    if (runnable_.empty()) {
      end = LaunchEnd::kDeadlock;
      trap = "every thread waits:\n" + WhoWaits();
      break;
    }
    Become(*Next());
    sluice_switch_stack(&main_stack_pointer_, current->stack_pointer);
    Cta* const cta = current->cta;
    current = nullptr;
    if (trapped) {
      end = LaunchEnd::kTrapped;
      break;
    }
    if (cta->live == 0) {
      EndCta(*cta);
      std::erase_if(ctas_, [&](const auto& other) { return other.get() == cta; });
    }
  }
  if (end != LaunchEnd::kDone) {
    trap = "launch " + std::to_string(launches_ - 1) + " of seed " + std::to_string(seed_) + ": " +
           trap;
    for (const auto& cta : ctas_) EndCta(*cta);
  }
  ctas_.clear();
  to_start_.clear();
  runnable_.clear();
  waiting_.clear();
  going_on_.clear();
  return end;
}

// Lanes of a warp that wait for the same share a line; what the first of them found.
std::string Device::WhoWaits() const {
  struct Lanes {
    int count = 0;
    int64_t found = 0;
  };
  std::map<std::string, Lanes> lines;
  for (const auto& cta : ctas_)
    for (const Thread& thread : cta->threads) {
      if (thread.done) continue;
      Lanes& lanes =
          lines["CTA " + std::to_string(cta->idx) + " warp " + std::to_string(thread.warp()) +
                ": " + thread.wait.what + " [" + std::to_string(thread.wait.idx) + "], needs " +
                std::to_string(thread.wait.needed)];
      if (lanes.count++ == 0) lanes.found = thread.wait.found;
    }
  std::string out;
  for (const auto& [line, lanes] : lines)
    out += "  " + line + ", found " + std::to_string(lanes.found) + " (" +
           std::to_string(lanes.count) + " lanes)\n";
  return out;
}

}  // namespace

Thread& Here() { return *the_device.current; }
uint64_t RandomBelow(uint64_t bound) { return the_device.random.Below(bound); }
uint64_t Ticks() { return ++the_device.ticks; }
void GoOn(std::function<bool()> part) { the_device.Add(std::move(part)); }
void WakeAll(const void* on) { the_device.Wake(on); }
void SeedLaunches(uint64_t seed) { the_device.Seed(seed); }
const std::string& LastTrap() { return the_device.trap; }

void Yield() {
  the_device.Runnable(the_device.current);
  the_device.Leave();
}
void Step() {
  if (RandomBelow(8) == 0) Yield();
}
void Block(const Wait& wait) {
  Thread& me = *the_device.current;
  me.blocked = true;
  me.wait = wait;
  if (wait.on) the_device.Wait(wait.on, &me);
  the_device.Leave();
}
void Trap(const std::string& why) {
  const Thread& me = *the_device.current;
  the_device.trap =
      "CTA " + std::to_string(me.cta->idx) + " thread " + std::to_string(me.idx) + ": " + why;
  the_device.trapped = true;
  the_device.Leave();
  std::abort();
}

uint8_t* SharedMemory(uint32_t address, uint32_t bytes) {
  if (address < kSharedBegin || address - kSharedBegin + uint64_t{bytes} > kSharedMax)
    Trap("shared memory at " + std::to_string(address) + ", " + std::to_string(bytes) + " bytes");
  return Here().cta->shared + (address - kSharedBegin);
}
uint32_t SharedAddressOf(const void* p) {
  const auto offset = static_cast<const uint8_t*>(p) - Here().cta->shared;
  if (offset < 0 || offset >= static_cast<int64_t>(kSharedMax))
    Trap("an address that is not of shared memory");
  return kSharedBegin + static_cast<uint32_t>(offset);
}

const std::array<uint32_t, kWarpLanes>& WarpExchange(int kind, uint32_t mask, uint32_t value) {
  Step();
  Thread& me = Here();
  if ((mask >> me.lane() & 1) == 0) Trap("a warp operation of other lanes");
  me.part.kind = kind;
  me.part.mask = mask;
  me.part.value = value;
  Thread* const first = &me - me.lane();
  const int lanes =
      std::min(kWarpLanes, static_cast<int>(me.cta->threads.size()) - (me.idx - me.lane()));
  for (int lane = 0; lane < kWarpLanes; ++lane)
    if (mask >> lane & 1)
      if (lane >= lanes || first[lane].part.kind != kind || first[lane].part.mask != mask) {
        Block({.what = "the other lanes of its warp", .idx = kind, .found = lane, .needed = mask});
        return me.part.gathered;
      }
  const bool with_values = kind != kSyncWarp;
  std::array<uint32_t, kWarpLanes> values = {};
  for (int lane = 0; with_values && lane < kWarpLanes; ++lane)
    if (mask >> lane & 1) values[static_cast<size_t>(lane)] = first[lane].part.value;
  for (int lane = 0; lane < kWarpLanes; ++lane)
    if (mask >> lane & 1) {
      if (with_values) first[lane].part.gathered = values;
      first[lane].part.kind = 0;
      if (&first[lane] != &me) the_device.Runnable(&first[lane]);
    }
  return me.part.gathered;
}

void CtaBarrier(int id, int threads) {
  Step();
  Thread& me = Here();
  NamedBarrier& barrier = me.cta->barriers[static_cast<size_t>(id)];
  if (threads % kWarpLanes != 0) Trap("a barrier of " + std::to_string(threads) + " threads");
  if (!barrier.waiting.empty() && barrier.threads != threads)
    Trap("barrier " + std::to_string(id) + " of " + std::to_string(threads) + " and of " +
         std::to_string(barrier.threads) + " threads");
  barrier.threads = threads;
  barrier.waiting.push_back(&me);
  const int needed = threads ? threads : me.cta->live;
  if (static_cast<int>(barrier.waiting.size()) < needed) {
    Block({.what = "a barrier of the CTA",
           .idx = id,
           .found = static_cast<int64_t>(barrier.waiting.size()),
           .needed = needed});
    return;
  }
  std::array<int, 64> of_warp = {};
  for (const Thread* thread : barrier.waiting) ++of_warp[static_cast<size_t>(thread->warp())];
  for (const int lanes : of_warp)
    if (threads && lanes != 0 && lanes != kWarpLanes) Trap("a barrier with parts of warps");
  for (Thread* thread : barrier.waiting)
    if (thread != &me) the_device.Runnable(thread);
  barrier.waiting.clear();
}

LaunchEnd RunLaunch(const LaunchShape& shape, const std::function<void()>& kernel) {
  CHECK(the_device.current == nullptr);
  return the_device.Run(shape, kernel);
}

}  // namespace sluice::emulated
