#include "server/run_server.h"

#include <fmt/core.h>
#include <signal.h>
#include <sys/resource.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "base/clock.h"
#include "base/log.h"
#include "server/front_text_service.h"
#include "server/signals.h"
#include "server/watchdog.h"

namespace sluice {
namespace {

constexpr auto kDrainPoll = std::chrono::milliseconds(20);
constexpr double kAbortSeconds = 5;  // for the last events of ended requests to leave

/// Counts the signals; the first while loading ends the process, as nobody is being served yet.
class StopRequest {
 public:
  void Signal(int number) {
    const std::lock_guard lock(mutex_);
    if (loading_) {
      log::Info("signal {} while loading: exit", number);
      std::_Exit(kExitOk);
    }
    if (++count_ == 1) first_ = number;
    changed_.notify_all();
  }
  void LoadingDone() {
    const std::lock_guard lock(mutex_);
    loading_ = false;
  }
  /// Returns the first signal's number.
  int WaitFirst() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return count_ > 0; });
    return first_;
  }
  /// True if a second one came within `seconds`.
  bool WaitSecond(double seconds) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::duration<double>(seconds),
                             [this] { return count_ > 1; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool loading_ = true;
  int count_ = 0, first_ = 0;
};

void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

int StartupError(const Status& status) {
  fmt::print(stderr, "sluice: error: {}\n", status.message());
  return kExitUsage;
}

Status WarmUp(Engine& engine, const TextService* text) {
  GenerateRequest request;
  constexpr int64_t kNewTokens = 2;
  const int64_t room = engine.info().max_request_tokens - kNewTokens;
  if (room < 1) return Status();  // a context too short to try
  request.input_ids = {0};
  if (text) {
    const auto ids = text->EncodePrompt("The capital city of France is", true);
    if (ids.ok() && !ids->empty()) request.input_ids = *ids;
  }
  if (static_cast<int64_t>(request.input_ids.size()) > room)
    request.input_ids.resize(static_cast<size_t>(room));
  request.sampling.max_new_tokens = kNewTokens;
  request.sampling.temperature = 0;
  const auto result = engine.Generate(std::move(request));
  if (!result.ok()) return result.status();
  return result->finish.type == FinishReason::Type::kAbort ? result->finish.error : Status();
}

/// Waits until nothing is in flight; false if `stop` got a second signal or time ran out first.
bool WaitIdle(const App& app, const HttpServer& http, StopRequest& stop,
              std::optional<double> seconds) {
  const double begin = MonotonicSeconds();
  while (http.active_requests() > 0 || app.pending_jobs() > 0) {
    if (seconds && MonotonicSeconds() - begin > *seconds) return false;
    if (stop.WaitSecond(std::chrono::duration<double>(kDrainPoll).count())) return false;
  }
  return true;
}

void Drain(const ServerOptions& options, App& app, HttpServer& http, Engine& engine,
           StopRequest& stop) {
  const int number = stop.WaitFirst();
  app.SetPhase(Phase::kDraining);
  const double grace = number == SIGTERM ? options.drain_seconds : 0;
  log::Info("signal {}: not ready any more; new requests are served for {} s", number, grace);
  bool hurry = options.force_shutdown || stop.WaitSecond(grace);
  app.SetPhase(Phase::kStopping);
  http.StopKeepAlive();
  if (!hurry) {
    log::Info("draining: {} requests in flight", http.active_requests());
    hurry = !WaitIdle(app, http, stop, options.drain_timeout_seconds);
  }
  engine.Drain();
  if (!hurry) return;
  log::Warning("ending {} requests in flight", http.active_requests());
  engine.Shutdown();  // each call ends with an error: as a status, or as the stream's last frame
  const double begin = MonotonicSeconds();
  while (http.active_requests() > 0 && MonotonicSeconds() - begin < kAbortSeconds)
    std::this_thread::sleep_for(kDrainPoll);
}

}  // namespace

int RunServer(const ServerOptions& options, const EngineOptions& engine_options) {
  RaiseDescriptorLimit();
  StopRequest stop;
  const SignalWatcher watcher([&stop](int number) { stop.Signal(number); });
  std::unique_ptr<HttpServer> http;  // outlives everything that may hold an exchange
  App app(options.app);
  auto started = HttpServer::Start(options.http, app);
  if (!started.ok()) return StartupError(started.status());
  http = std::move(*started);
  fmt::print("Listening on {}\n", http->url());
  std::fflush(stdout);

  std::unique_ptr<TextService> text;  // outlives the engine: its last events are still written
  auto engine = Engine::Open(engine_options);
  if (!engine.ok()) {
    http->Stop();
    return StartupError(engine.status());
  }
  text = MakeFrontTextService((*engine)->text());
  app.SetEngine(engine->get(), text.get());
  app.SetPhase(Phase::kWarming);
  if (options.warm_up) {
    const Status warm = WarmUp(**engine, text.get());
    if (!warm.ok()) {
      http->Stop();
      app.Stop();
      return StartupError(Error(warm.code(), "the warm-up request failed: {}", warm.message()));
    }
  }
  stop.LoadingDone();
  app.SetPhase(Phase::kReady);
  const Watchdog watchdog(
      options.watchdog_seconds, [&] { return (*engine)->stats().current_step_seconds; },
      [&](double seconds) {
        app.SetPhase(Phase::kStopping);  // probes still get their 503 while the core is written
        log::Error("watchdog: a step has run for {:.0f} s, allowed are {:.0f}; aborting", seconds,
                   options.watchdog_seconds);
        std::abort();
      });
  fmt::print("The server is fired up and ready to roll!\n");
  std::fflush(stdout);

  Drain(options, app, *http, **engine, stop);
  http->Stop();
  app.Stop();  // no more calls into the engine from outside
  log::Info("stopped");
  return kExitOk;
}

}  // namespace sluice
