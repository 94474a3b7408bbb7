#include "engine/step_engine.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "base/trace.h"
#include "base/units.h"

namespace sluice {
namespace {

// Rows of logits at a time: enough to share the reading of the output matrix, 32 MiB at most.
int64_t LogitRows(int64_t vocab) {
  return std::clamp<int64_t>((int64_t{32} << 20) / (vocab * 4), 16, 256);
}

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

}  // namespace

uint64_t StepEngine::ScratchBytes(const Model& model, const SchedulerLimits& limits,
                                  int64_t context_length, int lanes) {
  const int64_t rows = limits.StepRows(context_length);
  const int64_t vocab = model.info().vocab_size;
  const int64_t logit_rows = LogitRows(vocab);
  const auto matrix = [](int64_t m, int64_t n) {
    return static_cast<uint64_t>(RoundUp(m * n * 4, 64));
  };
  return matrix(rows, model.info().hidden_size) + matrix(logit_rows, vocab) +
         std::max(model.ScratchBytes(rows, logit_rows, lanes),
                  SamplingScratchBytes(logit_rows, vocab, lanes));
}

Result<std::unique_ptr<StepEngine>> StepEngine::Create(const Model& model,
                                                       const StepEngineOptions& options, Team& team,
                                                       const Machine& machine) {
  TRY(KvPagePool kv, KvPagePool::Create(model.cache_layout(), options.kv_pages));
  TRY(RecurrentPool recurrent, RecurrentPool::Create(model.cache_layout(), options.state_slots));
  TRY(Buffer scratch,
      Buffer::Allocate(ScratchBytes(model, options.limits, options.context_length, team.lanes()),
                       "scratch"));
  return std::unique_ptr<StepEngine>(new StepEngine(model, options, team, machine, std::move(kv),
                                                    std::move(recurrent),
                                                    Arena(std::move(scratch))));
}

StepEngine::StepEngine(const Model& model, const StepEngineOptions& options, Team& team,
                       const Machine& machine, KvPagePool kv, RecurrentPool recurrent, Arena arena)
    : model_(model),
      vocab_size_(model.info().vocab_size),
      hidden_size_(model.info().hidden_size),
      logit_rows_(LogitRows(vocab_size_)),
      team_(team),
      machine_(machine),
      kv_(std::move(kv)),
      recurrent_(std::move(recurrent)),
      arena_(std::move(arena)),
      scheduler_(options.limits, kv_, recurrent_) {}

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
    batch_.Build(plan);
    RunModel();
    generated = Settle(plan, events);
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

void StepEngine::RunModel() {
  const Arena::Scope scope(arena_);
  Exec exec{team_, machine_, arena_};
  const auto output_count = static_cast<int64_t>(batch_.outputs().size());
  const View<float, 2> hidden = arena_.Matrix<float>(output_count, hidden_size_);
  {
    const trace::Span span("forward");
    model_.Forward(batch_.View(), {&kv_, &recurrent_}, hidden, exec);
  }
  for (int64_t begin = 0; begin < output_count; begin += logit_rows_)
    ChooseTokens(hidden.Rows(begin, std::min(logit_rows_, output_count - begin)), begin);
}

void StepEngine::ChooseTokens(View<const float, 2> hidden, int64_t output_begin) {
  const Arena::Scope scope(arena_);
  Exec exec{team_, machine_, arena_};
  const int64_t rows = hidden.dim(0);
  const View<float, 2> logits = arena_.Matrix<float>(rows, vocab_size_);
  {
    const trace::Span span("logits");
    model_.Logits(hidden, logits, exec);
  }
  const trace::Span span("sample");
  sampling_rows_.clear();
  for (int64_t i = 0; i < rows; ++i)
    sampling_rows_.push_back(MakeRow(batch_.outputs()[output_begin + i], logits.row(i)));
  SampleRows(sampling_rows_, vocab_size_, exec);
  for (int64_t i = 0; i < rows; ++i) {
    OutputRow& output = batch_.outputs()[output_begin + i];
    output.token = sampling_rows_[i].token;
    output.fault = sampling_rows_[i].fault;
    output.fault_id = sampling_rows_[i].fault_id;
  }
}

SamplingRow StepEngine::MakeRow(OutputRow& output, float* logits) const {
  Request& r = *output.request;
  SamplingRow row;
  row.logits = logits;
  if (r.in.logprobs.enabled) row.logprobs = &r.in.logprobs;
  if (output.prompt_position >= 0) {
    row.target = r.in.prompt[output.prompt_position];
    row.report = &r.prompt_logprobs[output.prompt_position - r.in.logprobs.prompt_start];
    return row;
  }
  row.report = &output.report;
  row.params = &r.in.sampling;
  row.history = r.history ? &*r.history : nullptr;
  if (r.generated() < r.in.sampling.min_new_tokens) row.masked = r.in.stop_ids;
  row.seed = r.in.seed;
  row.position = r.token_count();
  return row;
}

// --- the books ---

int64_t StepEngine::Settle(const StepPlan& plan, std::vector<CoreEvent>& events) {
  int64_t generated = 0;
  for (size_t i = 0; i < plan.items.size(); ++i) {
    const StepItem& item = plan.items[i];
    Request& r = *item.request;
    r.computed += item.token_count;
    if (const OutputRow* fault = FindFault(i)) {
      Status why = FaultStatus(*fault);
      log::Error("request {}: {}", r.in.key, why.message());
      End(&r, EventFor(r), Abort(std::move(why)), events, true);
      continue;
    }
    const int64_t output_end = batch_.output_begin(i + 1);
    const bool samples = item.is_last && r.new_tokens_max() > 0;
    r.prompt_scored += output_end - batch_.output_begin(i) - (samples ? 1 : 0);
    if (samples) {
      ++generated;
      Accept(batch_.outputs()[output_end - 1], events);
    } else if (item.is_last) {
      End(&r, EventWithPrompt(r), {.type = CoreFinish::Type::kLength}, events);
    }
  }
  return generated;
}

const OutputRow* StepEngine::FindFault(size_t item_idx) {
  for (int64_t i = batch_.output_begin(item_idx); i < batch_.output_begin(item_idx + 1); ++i)
    if (batch_.outputs()[i].fault != RowFault::kNone) return &batch_.outputs()[i];
  return nullptr;
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
