// Health, aborting, cache.
#include <algorithm>
#include <boost/json/object.hpp>
#include <chrono>
#include <thread>

#include "base/clock.h"
#include "server/api/api_error.h"
#include "server/api/prepare_call.h"
#include "server/app.h"
#include "server/json/json_reader.h"

namespace sluice {
namespace {

constexpr auto kProbePoll = std::chrono::milliseconds(50);
constexpr double kFaultSeconds = 60;

HttpResponse Text(int status, std::string body) {
  return {.status = status, .content_type = "text/plain; charset=utf-8", .body = std::move(body)};
}

/// `id` itself, or a member of the batch `rid`: `rid_0`, `rid_1`, ...
bool Names(std::string_view rid, std::string_view id) {
  if (!id.starts_with(rid)) return false;
  std::string_view rest = id.substr(rid.size());
  if (rest.empty()) return true;
  if (rest.size() < 2 || rest[0] != '_') return false;
  rest.remove_prefix(1);
  return std::all_of(rest.begin(), rest.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

// Three numeric faults within a minute: the weights or the machine are suspect, so a balancer
// should send its requests elsewhere. What comes nevertheless is served.
bool App::Healthy() const {
  if (phase_ != Phase::kReady) return false;
  const double third = engine_->stats().third_last_fault_monotonic;
  return third == 0 || MonotonicSeconds() - third > kFaultSeconds;
}

void App::Health(const ExchangePtr& exchange) {
  exchange->Respond(Text(Healthy() ? 200 : 503, ""));
}
void App::Ready(const ExchangePtr& exchange) { exchange->Respond(Text(Healthy() ? 200 : 503, "")); }
void App::Live(const ExchangePtr& exchange) { exchange->Respond(Text(200, "")); }

void App::HealthGenerate(const ExchangePtr& exchange) {
  if (!Healthy()) return exchange->Respond(Text(503, ""));
  {
    const std::lock_guard lock(health_mutex_);
    health_waiting_.push_back(exchange);
  }
  // One probe answers everyone who waits: a flood of checks costs one token at a time. If the queue
  // is full, the probe in it has not begun and will answer this one, too.
  health_worker_.TryPost([this] {
    std::vector<ExchangePtr> waiting;
    {
      const std::lock_guard lock(health_mutex_);
      waiting.swap(health_waiting_);
    }
    if (waiting.empty()) return;
    const int status = ProbeEngine() ? 200 : 503;
    for (const ExchangePtr& one : waiting) one->Respond(Text(status, ""));
  });
}

// A busy engine proves its health by a step; an idle one is asked for a token.
bool App::ProbeEngine() {
  const double begin = MonotonicSeconds();
  const auto step_since = [&] { return engine_->stats().last_step_monotonic > begin; };
  std::string id;
  const EngineStats stats = engine_->stats();
  if (stats.running_requests + stats.queued_requests == 0) {
    GenerateRequest probe;
    probe.id = "HEALTH_CHECK_" + NewRequestId();
    probe.input_ids = {0};
    probe.sampling.max_new_tokens = 1;
    probe.sampling.temperature = 0;
    const auto finished = std::make_shared<std::atomic<int>>(0);
    const auto submitted = engine_->Submit(std::move(probe), [finished](GenerateEvent&& event) {
      if (event.finish) *finished = event.finish->type == FinishReason::Type::kAbort ? -1 : 1;
    });
    if (!submitted.ok()) return false;
    id = *submitted;
    while (*finished == 0 && MonotonicSeconds() - begin < options_.health_timeout_seconds)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    if (*finished == 0) engine_->Cancel(id, "health check timed out");
    return *finished == 1;
  }
  while (!step_since() && MonotonicSeconds() - begin < options_.health_timeout_seconds)
    std::this_thread::sleep_for(kProbePoll);
  return step_since();
}

void App::AbortRequest(const ExchangePtr& exchange) {
  const auto document = ParseJson(exchange->TakeBody());
  Status status = document.ok() ? Status() : document.status();
  std::string rid;
  bool all = false;
  if (status.ok() && !document->is_object())
    status = Error(Code::kInvalidArgument, "the request body must be a JSON object");
  if (status.ok()) status = FieldReader(document->get_object()).String("rid", rid, 256);
  if (status.ok()) status = FieldReader(document->get_object()).Bool("abort_all", all);
  if (status.ok() && rid.empty() && !all)
    status = ParamError(Code::kMissingParameter, "rid", "rid is missing (or set abort_all)");
  if (!status.ok()) return exchange->Respond(ErrorResponse(ToApiError(status)));
  for (const std::string& id : engine_->LiveRequests())
    if (all || Names(rid, id)) engine_->Cancel(id, "aborted by /abort_request");
  exchange->Respond(Text(200, ""));
}

void App::FlushCache(const ExchangePtr& exchange) {
  const EngineStats stats = engine_->stats();
  if (stats.running_requests + stats.queued_requests > 0)
    return exchange->Respond(
        Text(400, fmt::format("Cache not flushed: {} requests are running and {} are waiting.\n",
                              stats.running_requests, stats.queued_requests)));
  exchange->Respond(Text(200, "Cache flushed.\n"));
}

}  // namespace sluice
