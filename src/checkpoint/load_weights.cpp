// Runs a weight table: every tensor once, largest first, on all lanes.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "base/clock.h"
#include "base/log.h"
#include "checkpoint/weights.h"

namespace sluice {
namespace {

constexpr double kProgressSeconds = 0.1;
constexpr double kStallSeconds = 30;  // without a finished tensor: say what is being waited for

struct Job {
  const WeightRow* row;
  TensorInfo tensor;
};

// The first element that is NaN or infinite, or -1. All exponent bits set is the test for the IEEE
// types; e4m3 has no infinity and two NaN codes.
template <class T>
int64_t FindMasked(const T* x, int64_t count, T mask) {
  constexpr int64_t kBlock = 1024;  // scanned without branches, so that it becomes vector code
  int64_t i = 0;
  for (; i + kBlock <= count; i += kBlock) {
    T any = 0;
    for (int64_t j = 0; j < kBlock; ++j) any |= static_cast<T>((x[i + j] & mask) == mask);
    if (any) break;
  }
  for (; i < count; ++i)
    if ((x[i] & mask) == mask) return i;
  return -1;
}

int64_t FindNonFinite(const TensorData& data) {
  switch (data.dtype) {
    case DType::kF32: return FindMasked<uint32_t>(data.As<uint32_t>(), data.count(), 0x7F800000u);
    case DType::kBf16: return FindMasked<uint16_t>(data.As<uint16_t>(), data.count(), 0x7F80);
    case DType::kF16: return FindMasked<uint16_t>(data.As<uint16_t>(), data.count(), 0x7C00);
    case DType::kF8E4M3: return FindMasked<uint8_t>(data.As<uint8_t>(), data.count(), 0x7F);
    case DType::kF64:
      return FindMasked<uint64_t>(data.As<uint64_t>(), data.count(), 0x7FF0000000000000ull);
    default: return -1;
  }
}

class Load {
 public:
  Load(const WeightSource& source, const LoadOptions& options, int lanes)
      : source_(source), options_(options), current_(lanes) {}

  Status Run(std::span<const WeightRow> rows, Team& team) {
    RETURN_IF_ERROR(MakeJobs(rows));
    std::thread monitor;
    try {
      monitor = std::thread([this] { Monitor(); });
    } catch (const std::system_error&) {
      log::Warning("no thread to report progress with: loading without");
    }
    RunRound(0, early_, team);
    RunRound(early_, jobs_.size(), team);
    {
      std::lock_guard lock(mutex_);
      finished_ = true;
    }
    wake_.notify_all();
    if (monitor.joinable()) monitor.join();
    const Status changed = source_.Finish();
    if (!changed.ok() && !error_.ok())  // what a lane saw may be a consequence: say both
      return Status(changed.code(), changed.message() + "; " + error_.message());
    RETURN_IF_ERROR(changed);
    RETURN_IF_ERROR(error_);
    if (options_.progress) options_.progress(bytes_total_, bytes_total_);
    return {};
  }

 private:
  Status MakeJobs(std::span<const WeightRow> rows) {
    for (const WeightRow& row : rows) {
      std::optional<TensorInfo> tensor = source_.Find(row);
      if (!tensor && row.required)
        return Error(Code::kBadCheckpoint, "tensor {} is missing", row.name);
      if (!tensor) continue;
      bytes_total_ += tensor->bytes();
      jobs_.push_back({&row, *std::move(tensor)});
    }
    std::stable_sort(jobs_.begin(), jobs_.end(), [](const Job& a, const Job& b) {
      if (a.row->early != b.row->early) return a.row->early;
      return a.tensor.bytes() > b.tensor.bytes();
    });
    early_ = static_cast<size_t>(
        std::count_if(jobs_.begin(), jobs_.end(), [](const Job& job) { return job.row->early; }));
    return {};
  }

  void RunRound(size_t begin, size_t end, Team& team) {
    if (begin == end) return;
    next_ = begin;
    end_ = end;
    team.Run([this](int lane) { RunLane(lane); });
  }

  void RunLane(int lane) {
    std::vector<std::byte> scratch;
    while (!stop_.load(std::memory_order_relaxed)) {
      const size_t job = next_.fetch_add(1, std::memory_order_relaxed);
      if (job >= end_) break;
      current_[lane].store(&jobs_[job], std::memory_order_relaxed);
      if (Status status = RunJob(jobs_[job], scratch); !status.ok()) Fail(job, std::move(status));
      bytes_done_.fetch_add(jobs_[job].tensor.bytes(), std::memory_order_relaxed);
    }
    current_[lane].store(nullptr, std::memory_order_relaxed);
  }

  Status RunJob(const Job& job, std::vector<std::byte>& scratch) {
    try {
      return source_.Visit(*job.row, scratch, [&](const TensorData& data) {
        if (options_.refuse_non_finite)
          if (const int64_t at = FindNonFinite(data); at >= 0)
            return Error(Code::kBadCheckpoint, "element {} is NaN or infinite", at);
        return job.row->place(data);
      });
    } catch (const std::bad_alloc&) {
      return Error(Code::kOutOfMemory, "no memory to load tensor {} of {} bytes",
                   Quoted(job.tensor.name), job.tensor.bytes());
    }
  }

  // Of several errors the one of the first tensor in order stays.
  void Fail(size_t job, Status status) {
    std::lock_guard lock(mutex_);
    stop_.store(true, std::memory_order_relaxed);
    if (error_.ok() || job < error_job_) {
      error_ = std::move(status);
      error_job_ = job;
    }
  }

  // Reports progress from a thread of its own, so that a lane that hangs in a page fault (a dead
  // network file system, say) is seen: nothing can interrupt it.
  void Monitor() {
    uint64_t last_done = 0;
    double last_change_s = MonotonicSeconds();
    std::unique_lock lock(mutex_);
    const auto period = std::chrono::duration<double>(kProgressSeconds);
    while (!wake_.wait_for(lock, period, [this] { return finished_; })) {
      lock.unlock();
      const uint64_t done = bytes_done_.load(std::memory_order_relaxed);
      if (options_.progress) options_.progress(done, bytes_total_);
      const double now_s = MonotonicSeconds();
      if (done != last_done) last_change_s = now_s;
      last_done = done;
      if (now_s - last_change_s > kStallSeconds) {
        ReportStall(now_s - last_change_s);
        last_change_s = now_s;
      }
      lock.lock();
    }
  }

  void ReportStall(double seconds) const {
    for (const auto& current : current_)
      if (const Job* job = current.load(std::memory_order_relaxed))
        log::Warning("loading has stood still for {:.0f} s at tensor {} ({} bytes)", seconds,
                     Quoted(job->tensor.name), job->tensor.bytes());
  }

  const WeightSource& source_;
  const LoadOptions& options_;
  std::vector<Job> jobs_;
  size_t early_ = 0, end_ = 0;  // how many of them come first; where this round ends
  uint64_t bytes_total_ = 0;
  std::atomic<size_t> next_{0};
  std::atomic<uint64_t> bytes_done_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::atomic<const Job*>> current_;  // what each lane is at

  std::mutex mutex_;
  std::condition_variable wake_;
  bool finished_ = false;
  Status error_;
  size_t error_job_ = 0;
};

}  // namespace

Status LoadWeights(const WeightSource& source, std::span<const WeightRow> rows, Team& team,
                   const LoadOptions& options) {
  return Load(source, options, team.lanes()).Run(rows, team);
}

}  // namespace sluice
