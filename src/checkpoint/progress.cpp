#include "checkpoint/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/clock.h"
#include "base/log.h"
#include "base/units.h"

namespace sluice {
namespace {

constexpr double kLineSeconds = 5;
constexpr double kLineShare = 0.1;
constexpr int kBarColumns = 30;

// "12.3 GiB of 40 GiB (31 %), 1.2 GiB/s"
std::string Describe(uint64_t done, uint64_t total, double elapsed_s) {
  const double percent =
      total ? 100.0 * static_cast<double>(done) / static_cast<double>(total) : 100;
  const double rate = static_cast<double>(done) / std::max(elapsed_s, 1e-3);
  return fmt::format("{} of {} ({:.0f} %), {}/s", FormatBytes(done), FormatBytes(total), percent,
                     FormatBytes(static_cast<uint64_t>(rate)));
}

}  // namespace

LoadProgress::LoadProgress(std::string title, Form form)
    : title_(std::move(title)), form_(form), started_s_(MonotonicSeconds()) {
  if (form_ == Form::kAuto) form_ = isatty(STDERR_FILENO) ? Form::kBar : Form::kLines;
}

LoadProgress::~LoadProgress() {
  if (form_ == Form::kBar && begun_ && !finished_) std::fputc('\n', stderr);
}

void LoadProgress::Update(uint64_t bytes_done, uint64_t bytes_total) {
  if (form_ == Form::kSilent || finished_) return;
  begun_ = true;
  finished_ = bytes_done >= bytes_total;
  const double elapsed_s = MonotonicSeconds() - started_s_;
  if (form_ == Form::kBar) {
    DrawBar(bytes_done, bytes_total, elapsed_s);
    return;
  }
  const double step = kLineShare * static_cast<double>(bytes_total);
  const bool due =
      static_cast<double>(bytes_done - last_done_) >= step || elapsed_s - last_s_ >= kLineSeconds;
  if (!due && !finished_) return;
  last_s_ = elapsed_s;
  last_done_ = bytes_done;
  log::Info("{}: {}", title_, Describe(bytes_done, bytes_total, elapsed_s));
}

// Redrawn in place: carriage return, the line, and "erase to the end of the line".
void LoadProgress::DrawBar(uint64_t done, uint64_t total, double elapsed_s) const {
  const int filled =
      total ? static_cast<int>(static_cast<double>(done) / static_cast<double>(total) * kBarColumns)
            : kBarColumns;
  const std::string bar = std::string(filled, '#') + std::string(kBarColumns - filled, '.');
  const std::string line = fmt::format("\r{} [{}] {}\x1b[K{}", title_, bar,
                                       Describe(done, total, elapsed_s), finished_ ? "\n" : "");
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace sluice
