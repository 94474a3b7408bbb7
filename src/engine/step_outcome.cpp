#include "engine/step_outcome.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace sluice {
namespace {

/// With the first event of a request whose prompt is through.
CoreEvent EventWithPrompt(Request& request) {
  CoreEvent event = EventFor(request);
  event.prompt_logprobs = std::exchange(request.prompt_logprobs, {});
  return event;
}

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

StepOutcome Fail(const OutputRow& fault) {
  Request& r = *fault.request;
  Status why = FaultStatus(fault);
  log::Error("request {}: {}", r.in.key, why.message());
  StepOutcome out{&r, EventFor(r), fault.fault != RowFault::kNothingLeft};
  out.event.finish = AbortFinish(std::move(why));
  return out;
}

// The order of the checks is SGLang's: the length comes first, so an EOS that is the last token
// allowed ends with `length`.
StepOutcome Accept(OutputRow& output) {
  Request& r = *output.request;
  StepOutcome out{&r, r.generated() == 0 ? EventWithPrompt(r) : EventFor(r)};
  out.event.token = output.token;
  if (r.in.logprobs.enabled) out.event.logprobs = std::move(output.report);
  r.tokens.push_back(output.token);
  if (r.history) r.history->AddGenerated(output.token);
  if (r.generated() >= r.new_tokens_max())
    out.event.finish = {.type = CoreFinish::Type::kLength};
  else if (!r.in.sampling.ignore_eos && std::ranges::binary_search(r.in.stop_ids, output.token))
    out.event.finish = {.type = CoreFinish::Type::kStop, .matched_token = output.token};
  return out;
}

}  // namespace

CoreEvent EventFor(const Request& request) {
  CoreEvent event;
  event.owner = request.in.owner;
  event.admitted_seconds = request.admitted_seconds;
  return event;
}

CoreFinish AbortFinish(Status why) {
  return {.type = CoreFinish::Type::kAbort, .error = std::move(why)};
}

std::optional<StepOutcome> SettleItem(const StepItem& item, size_t item_idx, StepBatch& batch) {
  Request& r = *item.request;
  r.computed += item.token_count;
  if (const OutputRow* fault = FindFault(batch, item_idx)) return Fail(*fault);
  const int64_t output_end = batch.output_begin(item_idx + 1);
  const bool samples = item.is_last && r.new_tokens_max() > 0;
  r.prompt_scored += output_end - batch.output_begin(item_idx) - (samples ? 1 : 0);
  if (samples) return Accept(batch.outputs()[output_end - 1]);
  if (!item.is_last) return std::nullopt;
  StepOutcome out{&r, EventWithPrompt(r)};
  out.event.finish = {.type = CoreFinish::Type::kLength};
  return out;
}

}  // namespace sluice
