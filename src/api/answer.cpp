#include "api/answer.h"

namespace sluice {

Answer::Answer(std::string id, const GenerateRequest& request, const Tokenizer* tokenizer,
               StopMatcher stop, EventCallback callback, double submitted_seconds)
    : id_(std::move(id)),
      callback_(std::move(callback)),
      stops_(request.sampling.stop),
      no_stop_trim_(request.sampling.no_stop_trim),
      prompt_tokens_(static_cast<int64_t>(request.input_ids.size())),
      submitted_seconds_(submitted_seconds),
      stop_(std::move(stop)) {
  if (tokenizer != nullptr) detokenizer_.emplace(*tokenizer, request.sampling.skip_special_tokens);
}

GenerateEvent Answer::Absorb(CoreEvent event, double now) {
  GenerateEvent out;
  out.prompt_logprobs = std::move(event.prompt_logprobs);
  if (event.token >= 0) {
    ++completion_tokens_;
    out.ids.push_back(event.token);
    if (event.logprobs) out.logprobs.push_back(std::move(*event.logprobs));
    // The token that ends an answer is no part of its text.
    const bool is_end = event.finish && event.finish->type == CoreFinish::Type::kStop;
    if (!is_end || no_stop_trim_) AddText(event.token, out);
  }
  const bool admitted = event.admitted_seconds > 0;
  if (event.finish) {
    AddFinish(std::move(*event.finish), admitted, out);
  } else if (stop_.matched() >= 0) {
    out.finish = {.type = FinishReason::Type::kStop, .matched_string = stops_[stop_.matched()]};
  }
  ended_ = out.finish.has_value();
  out.prompt_tokens = prompt_tokens_;
  out.completion_tokens = completion_tokens_;
  if (admitted) out.queue_seconds = event.admitted_seconds - submitted_seconds_;
  out.elapsed_seconds = now - submitted_seconds_;
  return out;
}

void Answer::AddText(int32_t token, GenerateEvent& out) {
  if (detokenizer_) out.text += stop_.Push(detokenizer_->Push(token)).text;
}

// Length is checked before stop strings (SGLang's order): an answer whose last allowed token
// completes one ends with `length`, its text still without the string.
void Answer::AddFinish(CoreFinish finish, bool admitted, GenerateEvent& out) {
  if (detokenizer_) {
    out.text += stop_.Push(detokenizer_->Flush()).text;
    out.text += stop_.Flush();
  }
  FinishReason& reason = out.finish.emplace();
  switch (finish.type) {
    case CoreFinish::Type::kStop:
      reason.type = FinishReason::Type::kStop;
      reason.matched_token = finish.matched_token;
      break;
    case CoreFinish::Type::kLength: reason.type = FinishReason::Type::kLength; break;
    case CoreFinish::Type::kAbort:
      reason.type = FinishReason::Type::kAbort;
      reason.error = std::move(finish.error);
      if (!admitted && reason.error.code() == Code::kCancelled)
        reason.error = Status(Code::kCancelled, "Abort before prefill");
      break;
  }
}

}  // namespace sluice
