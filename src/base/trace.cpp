#include "base/trace.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>

namespace sluice::trace {
namespace {

constexpr int64_t kEventsMax = 2'000'000;  // about 80 MiB
constexpr int64_t kGrant = 1024;           // events that a thread takes of them at a time

// A thread records into its own log, whose lock nobody else wants until the spans are read.
struct ThreadLog {
  std::mutex mutex;
  int number = 0;
  std::string name;  // does not change
  std::vector<Event> events;
  int64_t granted = 0;
  std::map<std::string_view, Total> totals;
};

std::mutex mutex;                              // of `logs`; taken before a log's own
std::vector<std::shared_ptr<ThreadLog>> logs;  // in the order of their numbers
int threads = 0;                               // that have ever recorded
std::atomic<int64_t> events_left{kEventsMax};

thread_local std::string thread_name;
thread_local double part = 1;  // of its time that a span adds to the totals

ThreadLog& MyLog() {
  thread_local const std::shared_ptr<ThreadLog> mine = [] {
    auto log = std::make_shared<ThreadLog>();
    const std::lock_guard lock(mutex);
    log->number = threads++;
    log->name = thread_name;
    logs.push_back(log);
    return log;
  }();
  return *mine;
}

bool MayKeepEvent(ThreadLog& log) {
  if (log.granted == 0) {
    const int64_t left = events_left.fetch_sub(kGrant, std::memory_order_relaxed);
    log.granted = std::clamp(left, int64_t{0}, kGrant);
    if (left <= 0) events_left.store(0, std::memory_order_relaxed);
  }
  if (log.granted == 0) return false;
  --log.granted;
  return true;
}

template <class F>
void ForEachLog(F&& function) {
  const std::lock_guard lock(mutex);
  for (const auto& log : logs) {
    const std::lock_guard log_lock(log->mutex);
    function(*log);
  }
}

}  // namespace

namespace internal {

std::atomic<int> level{0};

uint64_t Now() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

void Record(const char* name, uint64_t begin_ns, uint64_t end_ns, int64_t bytes) {
  ThreadLog& log = MyLog();
  const std::lock_guard lock(log.mutex);
  Total& total = log.totals.try_emplace(name, Total{name, 0, 0}).first->second;
  total.seconds += part * static_cast<double>(end_ns - begin_ns) * 1e-9;
  ++total.count;
  if (MayKeepEvent(log)) log.events.push_back({name, begin_ns, end_ns, bytes, log.number});
}

}  // namespace internal

Part::Part(int lanes) { part = 1.0 / lanes; }
Part::~Part() { part = 1; }

void Enable(Level level) { internal::level.store(static_cast<int>(level)); }
void Disable() { internal::level.store(0); }
bool Enabled() { return internal::At(Level::kOperations); }

std::vector<Total> Totals() {
  std::map<std::string_view, Total> all;
  ForEachLog([&](const ThreadLog& log) {
    for (const auto& [name, total] : log.totals) {
      Total& sum = all.try_emplace(name, Total{total.name, 0, 0}).first->second;
      sum.seconds += total.seconds;
      sum.count += total.count;
    }
  });
  std::vector<Total> out;
  out.reserve(all.size());
  for (const auto& [name, total] : all) out.push_back(total);
  return out;
}

std::vector<Event> Events() {
  std::vector<Event> out;
  ForEachLog(
      [&](const ThreadLog& log) { out.insert(out.end(), log.events.begin(), log.events.end()); });
  return out;
}

void Reset() {
  ForEachLog([](ThreadLog& log) {
    log.totals.clear();
    log.events = {};
    log.granted = 0;
  });
  const std::lock_guard lock(mutex);
  std::erase_if(logs, [](const auto& log) { return log.use_count() == 1; });  // of ended threads
  events_left.store(kEventsMax, std::memory_order_relaxed);
}

void NameThread(std::string name) { thread_name = std::move(name); }

int ThreadNumber() { return MyLog().number; }

Status WriteChromeTrace(const std::string& path) {
  std::ofstream file(path);
  file << "{\"traceEvents\":[\n";
  const char* separator = "";
  ForEachLog([&](const ThreadLog& log) {
    if (!log.events.empty() && !log.name.empty()) {
      file << separator
           << fmt::format(
                  R"({{"name":"thread_name","ph":"M","pid":1,"tid":{},"args":{{"name":"{}"}}}})",
                  log.number, log.name);
      separator = ",\n";
    }
    for (const Event& event : log.events) {
      file << separator
           << fmt::format(R"({{"name":"{}","ph":"X","pid":1,"tid":{},"ts":{:.3f},"dur":{:.3f})",
                          event.name, event.thread, static_cast<double>(event.begin_ns) * 1e-3,
                          static_cast<double>(event.end_ns - event.begin_ns) * 1e-3);
      if (event.bytes) file << fmt::format(R"(,"args":{{"bytes":{}}})", event.bytes);
      file << "}";
      separator = ",\n";
    }
  });
  file << "\n]}\n";
  file.close();
  if (!file) return Error(Code::kInvalidArgument, "trace file {} cannot be written", path);
  return {};
}

}  // namespace sluice::trace
