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

CoreEvent EventFor(const Request& request) {
  CoreEvent event;
  event.owner = request.in.owner;
  event.admitted_seconds = request.admitted_seconds;
  return event;
}

/// With the first event of a request whose prompt is through.
CoreEvent EventWithPrompt(Request& request) {
  CoreEvent event = EventFor(request);
  event.prompt_logprobs = std::exchange(request.prompt_logprobs, {});
  return event;
}

CoreFinish Abort(Status why) { return {.type = CoreFinish::Type::kAbort, .error = std::move(why)}; }

Status FaultStatus(const OutputRow& row) {
  const Request& r = *row.request;
  const int64_t position = row.prompt_position >= 0 ? row.prompt_position : r.token_count();
  if (row.fault == RowFault::kNothingLeft)
    return Error(Code::kInvalidArgument,
                 "no token is left to choose from at position {}: min_new_tokens masks every id",
                 position);
  return Error(Code::kNumericFault,
               "numeric_fault: the logit of id {} for position {} is not finite", row.fault_id,
               position);
}

const OutputRow* FindFault(StepBatch& batch, size_t item_idx) {
  for (int64_t i = batch.output_begin(item_idx); i < batch.output_begin(item_idx + 1); ++i)
    if (batch.outputs()[i].fault != RowFault::kNone) return &batch.outputs()[i];
  return nullptr;
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
      scheduler_(options.limits, kv_, recurrent_),
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
  End(request, EventFor(*request), Abort(why), events);
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

bool StepEngine::Step(std::vector<CoreEvent>& events) {
  if (scheduler_.Any() == nullptr) return false;
  const trace::Span span("step");
  const StepPlan& plan = scheduler_.Plan();
  const double now = MonotonicSeconds();
  report_.Began(plan, scheduler_, kv_.page_count(), now);
  AbortTooLarge(plan, events);
  int64_t generated = 0;
  if (!plan.items.empty()) {
    NoteAdmissions(plan, now);
    RunModel(plan.items);
    if (shares_.empty()) generated = Settle(plan.items, workers_[0].batch(), events);
    for (size_t i = 0; i < shares_.size(); ++i)
      generated += Settle(shares_[i], workers_[1 + i].batch(), events);
  }
  scheduler_.CheckLedger();
  report_.Ended(plan, scheduler_, kv_.page_count(), recurrent_.slot_count(), generated,
                MonotonicSeconds());
  return true;
}

void StepEngine::AbortTooLarge(const StepPlan& plan, std::vector<CoreEvent>& events) {
  for (Request* request : plan.too_large) {
    Status why = Error(Code::kOutOfMemory,
                       "Out of memory in DP rank 0: the request has {} tokens, the KV cache holds "
                       "{}, and no other request is left to retract",
                       request->token_count(), kv_.page_count() * kPageTokens);
    End(request, EventFor(*request), Abort(std::move(why)), events);
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

void StepEngine::RunModel(std::span<const StepItem> items) {
  shares_.clear();
  if (workers_.size() > 1) ShareSequences(items, team_.lanes(), &shares_);
  if (!shares_.empty()) return RunShares();
  workers_[0].Prepare(items);
  workers_[0].Compute({&kv_, &recurrent_});
}

void StepEngine::RunShares() {
  for (size_t i = 0; i < shares_.size(); ++i) workers_[1 + i].Prepare(shares_[i]);
  std::vector<std::exception_ptr> thrown(shares_.size());
  team_.Run([&](int lane) {
    const auto i = static_cast<size_t>(lane);
    if (i >= shares_.size()) return;
    const trace::Part part(team_.lanes());
    try {
      workers_[1 + i].Compute({&kv_, &recurrent_});
    } catch (...) {  // a lane's thread has no one else to tell
      thrown[i] = std::current_exception();
    }
  });
  for (const std::exception_ptr& exception : thrown)
    if (exception) std::rethrow_exception(exception);
}

// --- the books ---

int64_t StepEngine::Settle(std::span<const StepItem> items, StepBatch& batch,
                           std::vector<CoreEvent>& events) {
  int64_t generated = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    const StepItem& item = items[i];
    Request& r = *item.request;
    r.computed += item.token_count;
    if (const OutputRow* fault = FindFault(batch, i)) {
      Status why = FaultStatus(*fault);
      log::Error("request {}: {}", r.in.key, why.message());
      if (fault->fault != RowFault::kNothingLeft) report_.NoteFault(MonotonicSeconds());
      End(&r, EventFor(r), Abort(std::move(why)), events, true);
      continue;
    }
    const int64_t output_end = batch.output_begin(i + 1);
    const bool samples = item.is_last && r.new_tokens_max() > 0;
    r.prompt_scored += output_end - batch.output_begin(i) - (samples ? 1 : 0);
    if (samples) {
      ++generated;
      Accept(batch.outputs()[output_end - 1], events);
    } else if (item.is_last) {
      End(&r, EventWithPrompt(r), {.type = CoreFinish::Type::kLength}, events);
    }
  }
  return generated;
}

// The order of the checks is SGLang's: the length comes first, so an EOS that is the last token
// allowed ends with `length`.
void StepEngine::Accept(OutputRow& output, std::vector<CoreEvent>& events) {
  Request& r = *output.request;
  CoreEvent event = r.generated() == 0 ? EventWithPrompt(r) : EventFor(r);
  event.token = output.token;
  if (r.in.logprobs.enabled) event.logprobs = std::move(output.report);
  r.tokens.push_back(output.token);
  if (r.history) r.history->AddGenerated(output.token);
  if (r.generated() >= r.new_tokens_max()) {
    End(&r, std::move(event), {.type = CoreFinish::Type::kLength}, events);
  } else if (!r.in.sampling.ignore_eos && std::ranges::binary_search(r.in.stop_ids, output.token)) {
    End(&r, std::move(event), {.type = CoreFinish::Type::kStop, .matched_token = output.token},
        events);
  } else {
    events.push_back(std::move(event));
  }
}

void StepEngine::End(Request* request, CoreEvent event, CoreFinish finish,
                     std::vector<CoreEvent>& events, bool clear) {
  ++(finish.type == CoreFinish::Type::kAbort ? report_.counters.aborted
                                             : report_.counters.finished);
  event.finish = std::move(finish);
  events.push_back(std::move(event));
  scheduler_.Remove(request, clear);
  report_.counters.running = scheduler_.running();
  report_.counters.waiting = scheduler_.waiting();
  report_.counters.kv_tokens_used = scheduler_.pages_used() * kPageTokens;
  report_.counters.slots_used = scheduler_.slots_used();
}

}  // namespace sluice
