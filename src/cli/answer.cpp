#include "cli/answer.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <mutex>

namespace sluice {
namespace {

std::atomic<bool> interrupted{false};
// The handler may run on any thread and between any two calls of the one that waits, so it leaves a
// byte to be found.
int wake = -1;
struct sigaction previous_action;

void OnInterrupt(int) {
  const int error = errno;
  interrupted.store(true);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake, &one, sizeof(one));
  errno = error;
}

}  // namespace

InterruptScope::InterruptScope() {
  wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  struct sigaction action = {};
  action.sa_handler = OnInterrupt;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, &previous_action);
}

InterruptScope::~InterruptScope() {
  sigaction(SIGINT, &previous_action, nullptr);
  close(wake);
}

bool InterruptScope::WaitToRead(int fd) {
  while (!Taken()) {
    pollfd sources[] = {{fd, POLLIN, 0}, {wake, POLLIN, 0}};
    if (poll(sources, 2, -1) < 0) continue;  // a signal
    uint64_t count = 0;
    if (sources[1].revents && read(wake, &count, sizeof(count)) > 0) continue;
    if (sources[0].revents) return true;
  }
  return false;
}

bool InterruptScope::Taken() { return interrupted.exchange(false); }

Result<GenerateResult> StreamAnswer(Engine& engine, GenerateRequest request,
                                    const std::function<void(const GenerateEvent&)>& show) {
  struct Inbox {
    std::mutex mutex;
    std::condition_variable filled;
    std::deque<GenerateEvent> events;
  };
  const auto inbox = std::make_shared<Inbox>();
  const Result<std::string> id = engine.Submit(std::move(request), [inbox](GenerateEvent&& event) {
    const std::lock_guard lock(inbox->mutex);
    inbox->events.push_back(std::move(event));
    inbox->filled.notify_one();
  });
  if (!id.ok()) return id.status();

  GenerateResult result;
  for (bool ended = false; !ended;) {
    std::deque<GenerateEvent> events;
    {
      std::unique_lock lock(inbox->mutex);
      // The time-out is only for Ctrl-C, which wakes nobody.
      inbox->filled.wait_for(lock, std::chrono::milliseconds(50),
                             [&] { return !inbox->events.empty(); });
      events.swap(inbox->events);
    }
    if (InterruptScope::Taken()) engine.Cancel(*id, "stopped by Ctrl-C");
    for (GenerateEvent& event : events) {
      show(event);
      result.ids.insert(result.ids.end(), event.ids.begin(), event.ids.end());
      result.text += event.text;
      result.prompt_tokens = event.prompt_tokens;
      result.completion_tokens = event.completion_tokens;
      result.cached_tokens = event.cached_tokens;
      result.elapsed_seconds = event.elapsed_seconds;
      if (event.finish) {
        result.finish = std::move(*event.finish);
        ended = true;
      }
    }
  }
  return result;
}

std::string DescribeTiming(const GenerateResult& result, double first_token_seconds) {
  const double decode_seconds = result.elapsed_seconds - first_token_seconds;
  std::string out = fmt::format("{} + {} tokens, first after {:.3f} s", result.prompt_tokens,
                                result.completion_tokens, first_token_seconds);
  if (result.completion_tokens > 1 && decode_seconds > 0)
    out += fmt::format(", {:.1f} tokens/s",
                       static_cast<double>(result.completion_tokens - 1) / decode_seconds);
  return out;
}

}  // namespace sluice
