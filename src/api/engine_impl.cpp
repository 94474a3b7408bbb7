#include "api/engine_impl.h"

#include <fmt/format.h>

#include <algorithm>
#include <future>
#include <iterator>
#include <random>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"

namespace sluice {
namespace {

uint64_t UnpredictableKey() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

template <class T>
void Append(std::vector<T>& from, std::vector<T>& to) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

/// Philox counters (high half) of what is drawn from one seed.
enum : uint64_t { kSeedStream = 1, kIdStream = 2 };

}  // namespace

EngineImpl::EngineImpl(EngineParts parts) : parts_(std::move(parts)), id_key_(UnpredictableKey()) {
  output_ = std::make_unique<OutputThread>([this](CoreEvent&& event) { Handle(std::move(event)); });
  core_ = std::make_unique<EngineCore>(
      std::move(parts_.steps),
      EngineCoreOptions{.queued_requests = parts_.queued_requests, .pin = parts_.pin},
      [this](std::vector<CoreEvent>& events) { output_->Push(events); });
}

// The core stops by itself once it is told to, but a callback may still be calling Cancel: so it
// stays until the output thread has handed out the last event.
EngineImpl::~EngineImpl() {
  core_->Stop();
  output_.reset();
}

EngineStats EngineImpl::stats() const {
  const StepCounters c = core_->counters();
  EngineStats out;
  out.running_requests = c.running;
  out.queued_requests = c.waiting;
  out.kv_tokens_used = c.kv_tokens_used;
  out.kv_tokens_total = parts_.info.max_total_tokens;
  out.state_slots_used = c.slots_used;
  out.state_slots_total = parts_.info.state_slots;
  out.prompt_tokens = c.prompt_tokens;
  out.generated_tokens = c.generated_tokens;
  out.finished_requests = c.finished;
  out.aborted_requests = c.aborted;
  out.retracted_requests = c.retracted;
  out.steps = c.steps;
  out.prefill_steps = c.prefill_steps;
  out.step_seconds = c.step_seconds;
  out.last_step_monotonic = c.last_step_monotonic;
  out.generation_tokens_per_second = c.generation_tokens_per_second;
  out.numeric_faults = c.numeric_faults;
  out.third_last_fault_monotonic = c.third_last_fault_monotonic;
  out.current_step_seconds = core_->current_step_seconds();
  const std::lock_guard lock(mutex_);
  out.requests = static_cast<int64_t>(requests_);
  return out;
}

// --- requests ---

Status EngineImpl::Check(const GenerateRequest& request) const {
  const int64_t vocab = parts_.info.vocab_size;
  if (request.input_ids.empty())
    return ParamError(Code::kInvalidArgument, "input_ids", "input_ids must not be empty");
  for (const int32_t id : request.input_ids)
    if (id < 0 || id >= vocab)
      return ParamError(Code::kInvalidArgument, "input_ids",
                        "input_ids: id {} is outside the vocabulary [0, {})", id, vocab);
  RETURN_IF_ERROR(ValidateSampling(request.sampling, vocab));
  if (!request.sampling.stop.empty() && parts_.front == nullptr)
    return ParamError(Code::kInvalidArgument, "stop",
                      "stop strings need a tokenizer, and none is loaded; use stop_token_ids");
  RETURN_IF_ERROR(CheckLengths(request));
  return ValidateLogprobs(request.logprobs, vocab, static_cast<int64_t>(request.input_ids.size()));
}

Status EngineImpl::CheckLengths(const GenerateRequest& request) const {
  const int64_t context = parts_.info.context_length;
  const auto prompt = static_cast<int64_t>(request.input_ids.size());
  if (prompt >= context)
    return ParamError(Code::kContextLength, "input_ids",
                      "The input ({} tokens) is longer than the model's context length ({} "
                      "tokens).",
                      prompt, context);
  const int64_t wanted = request.sampling.max_new_tokens.value_or(0);
  if (wanted >= context - prompt)
    return ParamError(Code::kContextLength, "max_new_tokens",
                      "Requested token count exceeds the model's maximum context length of {} "
                      "tokens. You requested {} tokens of input and {} of output.",
                      context, prompt, wanted);
  return {};
}

CoreRequest EngineImpl::MakeCoreRequest(const GenerateRequest& request) {
  CoreRequest core;
  core.prompt = request.input_ids;
  core.sampling = request.sampling;
  core.logprobs = request.logprobs;
  SamplingParams& s = core.sampling;
  if (!s.max_new_tokens) {  // the rest of the context, as SGLang counts it
    const int64_t room =
        parts_.info.max_request_tokens - static_cast<int64_t>(request.input_ids.size()) - 1;
    s.max_new_tokens = std::max<int64_t>(room, 0);
    s.min_new_tokens = std::min(s.min_new_tokens, *s.max_new_tokens);
  }
  core.stop_ids = parts_.info.eos_ids;
  core.stop_ids.insert(core.stop_ids.end(), s.stop_token_ids.begin(), s.stop_token_ids.end());
  std::ranges::sort(core.stop_ids);
  core.stop_ids.erase(std::unique(core.stop_ids.begin(), core.stop_ids.end()), core.stop_ids.end());
  return core;
}

std::string EngineImpl::MadeUpId() {
  const auto words = Philox(id_key_, requests_, kIdStream);
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", words[0], words[1], words[2], words[3]);
}

Result<std::string> EngineImpl::Submit(GenerateRequest request, EventCallback callback) {
  RETURN_IF_ERROR(Check(request));
  TRY(StopMatcher stop, StopMatcher::Create(request.sampling.stop, request.sampling.no_stop_trim));
  CoreRequest core = MakeCoreRequest(request);
  const Tokenizer* tokenizer = parts_.front ? &parts_.front->tokenizer() : nullptr;

  const std::lock_guard lock(mutex_);
  ++requests_;
  std::string id = request.id.empty() ? MadeUpId() : request.id;
  if (live_.contains(id))
    return ParamError(Code::kDuplicateId, "rid", "a live request already has the id {}",
                      Quoted(id));
  if (request.sampling.seed) {
    core.seed = *request.sampling.seed;
  } else {
    const auto words = Philox(parts_.random_seed, requests_, kSeedStream);
    core.seed = (uint64_t{words[0]} << 32) | words[1];
  }
  auto answer = std::make_unique<Answer>(id, request, tokenizer, std::move(stop),
                                         std::move(callback), MonotonicSeconds());
  core.owner = answer.get();
  if (parts_.queue_seconds > 0) core.admit_by_seconds = MonotonicSeconds() + parts_.queue_seconds;
  TRY(answer->key, core_->Submit(std::move(core)));
  // Events may be queued by now; the output thread waits for this lock before it looks.
  live_.emplace(id, answer.get());
  answers_.emplace(answer.get(), std::move(answer));
  return id;
}

bool EngineImpl::Cancel(const std::string& id, const std::string& why) {
  uint64_t key;
  {
    const std::lock_guard lock(mutex_);
    const auto at = live_.find(id);
    if (at == live_.end()) return false;
    key = at->second->key;
  }
  core_->Cancel(key, Status(Code::kCancelled, why));
  return true;
}

std::vector<std::string> EngineImpl::LiveRequests() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> out;
  for (const auto& [id, answer] : live_) out.push_back(id);
  return out;
}

Result<GenerateResult> EngineImpl::Generate(GenerateRequest request) {
  struct Pending {  // shared with the callback, which may outlast the wait by an instant
    GenerateResult result;
    std::promise<void> done;
  };
  const auto pending = std::make_shared<Pending>();
  TRY(std::string id, Submit(std::move(request), [pending](GenerateEvent&& event) {
        GenerateResult& result = pending->result;
        Append(event.ids, result.ids);
        Append(event.logprobs, result.logprobs);
        Append(event.prompt_logprobs, result.prompt_logprobs);
        result.text += event.text;
        result.prompt_tokens = event.prompt_tokens;
        result.completion_tokens = event.completion_tokens;
        result.cached_tokens = event.cached_tokens;
        result.elapsed_seconds = event.elapsed_seconds;
        if (!event.finish) return;
        result.finish = std::move(*event.finish);
        pending->done.set_value();
      }));
  pending->done.get_future().wait();
  if (pending->result.finish.type == FinishReason::Type::kAbort)
    return pending->result.finish.error;
  return std::move(pending->result);
}

// --- the output thread ---

void EngineImpl::Handle(CoreEvent&& event) {
  auto* answer = static_cast<Answer*>(event.owner);
  const bool core_is_done = event.finish.has_value();
  {
    const std::lock_guard lock(mutex_);  // Submit has finished writing the answer
  }
  if (!answer->ended()) {
    // The time is that of the step: on a busy machine this thread may be far behind.
    const double made_seconds = event.made_seconds;
    GenerateEvent out = answer->Absorb(std::move(event), made_seconds);
    if (answer->ended()) {
      if (!core_is_done) core_->Cancel(answer->key, Status(Code::kCancelled, "stop string"));
      const std::lock_guard lock(mutex_);
      live_.erase(answer->id());
    }
    answer->callback()(std::move(out));
  }
  if (core_is_done) Forget(answer);
}

void EngineImpl::Forget(Answer* answer) {
  std::unique_ptr<Answer> last;  // destroyed without the lock: it owns a callback
  const std::lock_guard lock(mutex_);
  const auto at = answers_.find(answer);
  last = std::move(at->second);
  answers_.erase(at);
}

}  // namespace sluice
