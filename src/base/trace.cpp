#include "base/trace.h"

#include <unistd.h>

#include <chrono>
#include <fstream>
#include <map>
#include <mutex>

namespace sluice::trace {
namespace {

struct Event {
  const char* name;
  uint64_t begin_ns, end_ns;
  int thread;
};

constexpr size_t kEventsMax = 2'000'000;  // about 64 MiB; later events only add to the totals

std::mutex mutex;
std::vector<Event> events;
std::map<const char*, Total> totals;

thread_local double part = 1;  // of its time that a span adds to the totals

int ThreadNumber() {
  static std::atomic<int> next{0};
  thread_local const int number = next.fetch_add(1);
  return number;
}

}  // namespace

namespace internal {

std::atomic<bool> enabled{false};

uint64_t Now() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

void Record(const char* name, uint64_t begin_ns, uint64_t end_ns) {
  const int thread = ThreadNumber();
  const std::lock_guard lock(mutex);
  Total& total = totals.try_emplace(name, Total{name, 0, 0}).first->second;
  total.seconds += part * static_cast<double>(end_ns - begin_ns) * 1e-9;
  ++total.count;
  if (events.size() < kEventsMax) events.push_back({name, begin_ns, end_ns, thread});
}

}  // namespace internal

Part::Part(int lanes) { part = 1.0 / lanes; }
Part::~Part() { part = 1; }

void Enable() { internal::enabled.store(true); }
void Disable() { internal::enabled.store(false); }
bool Enabled() { return internal::enabled.load(std::memory_order_relaxed); }

std::vector<Total> Totals() {
  const std::lock_guard lock(mutex);
  std::vector<Total> out;
  for (const auto& [name, total] : totals) out.push_back(total);
  return out;
}

void Reset() {
  const std::lock_guard lock(mutex);
  totals.clear();
  events.clear();
}

Status WriteChromeTrace(const std::string& path) {
  const std::lock_guard lock(mutex);
  std::ofstream file(path);
  file << "{\"traceEvents\":[\n";
  const char* separator = "";
  for (const Event& event : events) {
    file << separator
         << fmt::format(R"({{"name":"{}","ph":"X","pid":1,"tid":{},"ts":{:.3f},"dur":{:.3f}}})",
                        event.name, event.thread, static_cast<double>(event.begin_ns) * 1e-3,
                        static_cast<double>(event.end_ns - event.begin_ns) * 1e-3);
    separator = ",\n";
  }
  file << "\n]}\n";
  file.close();
  if (!file) return Error(Code::kInvalidArgument, "trace file {} cannot be written", path);
  return {};
}

}  // namespace sluice::trace
