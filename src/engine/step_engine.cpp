#include "engine/step_engine.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "base/trace.h"
#include "engine/lane_shares.h"

namespace sluice {
namespace {

bool HasPenalties(const SamplingParams& p) {
  return p.repetition_penalty != 1 || p.frequency_penalty != 0 || p.presence_penalty != 0;
}

SchedulerLimits LimitsFor(const Model& model, SchedulerLimits limits, const Team& team) {
  if (LanesMayShareSequences(model, team.lanes())) limits.run_steps = kLaneStepsMax;
  return limits;
}

}  // namespace

uint64_t StepEngine::ScratchBytes(const Model& model, const SchedulerLimits& limits,
                                  int64_t context_length, int lanes) {
  const uint64_t whole = StepWorker::ScratchBytes(model, limits.StepRows(context_length), lanes);
  if (!LanesMayShareSequences(model, lanes)) return whole;
  return whole + static_cast<uint64_t>(lanes) * StepWorker::ScratchBytes(model, kLaneRowsMax, 1);
}

Result<std::unique_ptr<StepEngine>> StepEngine::Create(const Model& model,
                                                       const StepEngineOptions& options, Team& team,
                                                       const Machine& machine) {
  TRY(KvPagePool kv, KvPagePool::Create(model.cache_layout(), options.kv_pages));
  TRY(RecurrentPool recurrent, RecurrentPool::Create(model.cache_layout(), options.state_slots));
  std::unique_ptr<StepEngine> engine(
      new StepEngine(model, options, team, machine, std::move(kv), std::move(recurrent)));
  RETURN_IF_ERROR(engine->MakeWorkers());
  return engine;
}

StepEngine::StepEngine(const Model& model, const StepEngineOptions& options, Team& team,
                       const Machine& machine, KvPagePool kv, RecurrentPool recurrent)
    : model_(model),
      options_(options),
      team_(team),
      machine_(machine),
      kv_(std::move(kv)),
      recurrent_(std::move(recurrent)),
      scheduler_(LimitsFor(model, options.limits, team), kv_, recurrent_),
      report_(options.decode_log_interval) {}

Status StepEngine::MakeWorkers() {
  const int64_t rows = options_.limits.StepRows(options_.context_length);
  TRY(StepWorker whole, StepWorker::Create(model_, rows, team_, machine_));
  workers_.push_back(std::move(whole));
  if (!LanesMayShareSequences(model_, team_.lanes())) return {};
  for (int lane = 0; lane < team_.lanes(); ++lane) {
    TRY(StepWorker worker, StepWorker::Create(model_, kLaneRowsMax, alone_, machine_));
    workers_.push_back(std::move(worker));
  }
  return {};
}

Status StepEngine::CheckFits(int64_t prompt_length) const {
  const int64_t capacity = kv_.page_count() * kPageTokens;
  if (prompt_length <= capacity) return {};
  return ParamError(Code::kContextLength, "prompt",
                    "The input ({} tokens) can never fit the KV cache ({} tokens).", prompt_length,
                    capacity);
}

void StepEngine::Add(CoreRequest request) {
  CHECK(request.sampling.max_new_tokens.has_value());
  CHECK(CheckFits(static_cast<int64_t>(request.prompt.size())).ok());
  scheduler_.Add(std::make_unique<Request>(std::move(request)));
  report_.counters.waiting = scheduler_.waiting();
}

bool StepEngine::Cancel(uint64_t key, const Status& why, std::vector<CoreEvent>& events) {
  Request* request = scheduler_.Find(key);
  if (request == nullptr) return false;
  Abort(request, why, events);
  return true;
}

void StepEngine::ExpireWaiting(double now, std::vector<CoreEvent>& events) {
  if (scheduler_.waiting() == 0) return;
  while (Request* request = scheduler_.Overdue(now)) {
    Status why =
        Error(Code::kQueueTimeout,
              "The request waited in the queue for longer than --max-queue-seconds allows: "
              "{} requests run, {} wait.",
              scheduler_.running(), scheduler_.waiting());
    Cancel(request->in.key, why, events);
  }
}

void StepEngine::AbortAll(const Status& why, std::vector<CoreEvent>& events) {
  while (Request* request = scheduler_.Any()) Cancel(request->in.key, why, events);
}

bool StepEngine::Step(std::vector<CoreEvent>& events, const std::atomic<bool>* interrupt) {
  if (scheduler_.Any() == nullptr) return false;
  const trace::Span span("step");
  const StepPlan& plan = scheduler_.Plan();
  const double now = MonotonicSeconds();
  report_.Began(plan, scheduler_, kv_.page_count(), now);
  AbortTooLarge(plan, events);
  int64_t steps = 1, generated = 0;
  if (!plan.items.empty()) {
    NoteAdmissions(plan, now);
    steps = RunModel(plan, interrupt);
    if (shares_.empty()) generated = Book(workers_[0].outcomes(), events);
    for (size_t i = 0; i < shares_.size(); ++i)
      generated += Book(workers_[1 + i].outcomes(), events);
  }
  scheduler_.CheckLedger();
  report_.Ended(plan, scheduler_, kv_.page_count(), recurrent_.slot_count(), steps, generated,
                MonotonicSeconds());
  return true;
}

void StepEngine::AbortTooLarge(const StepPlan& plan, std::vector<CoreEvent>& events) {
  for (Request* request : plan.too_large) {
    Status why = Error(Code::kOutOfMemory,
                       "Out of memory in DP rank 0: the request has {} tokens, the KV cache holds "
                       "{}, and no other request is left to retract",
                       request->token_count(), kv_.page_count() * kPageTokens);
    Abort(request, std::move(why), events);
  }
}

void StepEngine::NoteAdmissions(const StepPlan& plan, double now) {
  for (const StepItem& item : plan.items) {
    Request& r = *item.request;
    if (r.admitted_before) continue;
    r.admitted_before = true;
    r.admitted_seconds = now;
    report_.counters.prompt_tokens += r.prompt_length();
    if (HasPenalties(r.in.sampling)) r.history.emplace().AddPrompt(r.in.prompt);
    const int64_t start = r.in.logprobs.prompt_start;
    if (!r.in.logprobs.enabled || start < 0) continue;
    r.prompt_logprobs.resize(r.prompt_length() - start);
    r.prompt_logprobs[0].id = r.in.prompt[start];  // has no predecessor in the report
    r.prompt_scored = 1;
  }
}

// --- the model ---

int64_t StepEngine::RunModel(const StepPlan& plan, const std::atomic<bool>* interrupt) {
  shares_.clear();
  if (workers_.size() > 1) ShareSequences(plan.items, team_.lanes(), &shares_);
  if (!shares_.empty()) return RunShares(plan.steps, interrupt);
  LaneRun once(1, 1, 1, nullptr);
  workers_[0].Run(plan.items, once, {&kv_, &recurrent_});
  return 1;
}

int64_t StepEngine::RunShares(int64_t steps, const std::atomic<bool>* interrupt) {
  LaneRun run(static_cast<int>(shares_.size()), std::min(steps, kLaneSteps), steps, interrupt);
  std::vector<std::exception_ptr> thrown(shares_.size());
  team_.Run([&](int lane) {
    const auto i = static_cast<size_t>(lane);
    if (i >= shares_.size()) return;
    const trace::Part part(team_.lanes());
    try {
      workers_[1 + i].Run(shares_[i], run, {&kv_, &recurrent_});
    } catch (...) {  // a lane's thread has no one else to tell
      thrown[i] = std::current_exception();
    }
  });
  for (const std::exception_ptr& exception : thrown)
    if (exception) std::rethrow_exception(exception);
  int64_t most = 0;
  for (size_t i = 0; i < shares_.size(); ++i) most = std::max(most, workers_[1 + i].steps_run());
  return most;
}

// --- the books ---

int64_t StepEngine::Book(std::span<StepOutcome> outcomes, std::vector<CoreEvent>& events) {
  int64_t generated = 0;
  for (StepOutcome& outcome : outcomes) {
    generated += outcome.event.token >= 0;
    if (outcome.not_finite) report_.NoteFault(MonotonicSeconds());
    if (outcome.event.finish)
      End(outcome.request, std::move(outcome.event), events, outcome.not_finite);
    else
      events.push_back(std::move(outcome.event));
  }
  return generated;
}

void StepEngine::Abort(Request* request, Status why, std::vector<CoreEvent>& events) {
  CoreEvent event = EventFor(*request);
  event.finish = AbortFinish(std::move(why));
  End(request, std::move(event), events);
}

void StepEngine::End(Request* request, CoreEvent event, std::vector<CoreEvent>& events,
                     bool clear) {
  ++(event.finish->type == CoreFinish::Type::kAbort ? report_.counters.aborted
                                                    : report_.counters.finished);
  events.push_back(std::move(event));
  scheduler_.Remove(request, clear);
  report_.counters.running = scheduler_.running();
  report_.counters.waiting = scheduler_.waiting();
  report_.counters.kv_tokens_used = scheduler_.pages_used() * kPageTokens;
  report_.counters.slots_used = scheduler_.slots_used();
}

}  // namespace sluice
