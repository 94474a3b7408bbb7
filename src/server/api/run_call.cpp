#include "server/api/run_call.h"

#include <algorithm>
#include <mutex>

#include "base/clock.h"
#include "server/api/api_error.h"
#include "server/api/sse.h"

namespace sluice {
namespace {

template <class T>
void MoveAppend(std::vector<T>& to, std::vector<T>&& from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

/// Adds `next` to events of the same generation that have not been written yet.
void Merge(GenerateEvent& pending, GenerateEvent&& next) {
  MoveAppend(pending.ids, std::move(next.ids));
  pending.text += next.text;
  MoveAppend(pending.logprobs, std::move(next.logprobs));
  MoveAppend(pending.prompt_logprobs, std::move(next.prompt_logprobs));
  if (next.finish) pending.finish = std::move(next.finish);
  pending.prompt_tokens = next.prompt_tokens;
  pending.completion_tokens = next.completion_tokens;
}

class RunningCall : public std::enable_shared_from_this<RunningCall> {
 public:
  RunningCall(const CallEnvironment& environment, Call call, std::shared_ptr<Exchange> exchange);
  void Start();

 private:
  struct Generation {
    GenerateEvent pending;  // not yet in a frame
    GenerateResult total;
    bool has_pending = false, finished = false, first_frame_sent = false;
    double last_event_seconds = 0;
  };

  bool stream() const { return call_.request.stream; }
  void OnEvent(size_t i, GenerateEvent&& event);
  void Absorb(size_t i, GenerateEvent&& event);
  void Observe(Generation& generation, const GenerateEvent& event);
  void Advance();  // writes what can be written; mutex_ is held
  void WriteFrames();
  bool Ripe(const Generation& generation) const;
  void FailWith(const Status& status);
  void Finish();
  void CancelRest(const std::string& why);

  const CallEnvironment environment_;
  const Call call_;
  const std::shared_ptr<Exchange> exchange_;

  std::mutex mutex_;
  std::unique_ptr<AnswerFormat> format_;
  std::vector<Generation> generations_;
  size_t started_ = 0;  // how many of them the engine has taken
  size_t unfinished_;
  bool submitted_ = false;  // all of them; nothing is written before
  bool stream_started_ = false;
  bool ended_ = false;  // answered, failed or abandoned: further events only drain
  Status first_error_;
};

RunningCall::RunningCall(const CallEnvironment& environment, Call call,
                         std::shared_ptr<Exchange> exchange)
    : environment_(environment),
      call_(std::move(call)),
      exchange_(std::move(exchange)),
      generations_(call_.generations.size()),
      unfinished_(call_.generations.size()) {
  switch (call_.request.api) {
    case Api::kNative:
      format_ =
          MakeNativeFormat(call_, environment_.text, environment_.config->incremental_streaming);
      break;
    case Api::kCompletion: format_ = MakeCompletionFormat(call_, environment_.text); break;
    case Api::kChat: format_ = MakeChatFormat(call_, environment_.text); break;
  }
}

void RunningCall::Start() {
  const auto self = shared_from_this();
  environment_.metrics->CountRequests(static_cast<int64_t>(call_.generations.size()), stream());
  for (size_t i = 0; i < call_.generations.size(); ++i) {
    const auto submitted = environment_.engine->Submit(
        call_.generations[i],
        [self, i](GenerateEvent&& event) { self->OnEvent(i, std::move(event)); });
    {
      const std::lock_guard lock(mutex_);
      if (submitted.ok()) {
        ++started_;
        continue;
      }
      FailWith(submitted.status());
    }
    return CancelRest("a sibling was refused");
  }
  // From here on a disconnect cancels everything; if the peer has gone already, at once. The
  // exchange keeps this call alive until it is over, also when the engine has nothing more to say.
  exchange_->Watch(
      [self] {
        {
          const std::lock_guard lock(self->mutex_);
          self->ended_ = true;
        }
        self->environment_.metrics->CountDisconnect();
        self->CancelRest("the client went away");
      },
      [self] {
        const std::lock_guard lock(self->mutex_);
        self->Advance();
      });
  const std::lock_guard lock(mutex_);
  submitted_ = true;
  Advance();
}

// Nothing but what this call has in the engine: a refused id belongs to another client's request,
// that of a finished generation may by now.
void RunningCall::CancelRest(const std::string& why) {
  std::vector<std::string> ids;
  {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < started_; ++i)
      if (!generations_[i].finished) ids.push_back(call_.generations[i].id);
  }
  for (const std::string& id : ids) environment_.engine->Cancel(id, why);
}

void RunningCall::OnEvent(size_t i, GenerateEvent&& event) {
  bool failed = false;
  {
    const std::lock_guard lock(mutex_);
    Absorb(i, std::move(event));
    if (!submitted_ || ended_) return;
    failed = !first_error_.ok();
    if (failed) {
      FailWith(first_error_);
    } else {
      Advance();
    }
  }
  if (failed) CancelRest("a sibling failed");
}

void RunningCall::Absorb(size_t i, GenerateEvent&& event) {
  Generation& generation = generations_[i];
  Observe(generation, event);
  GenerateResult& total = generation.total;
  total.prompt_tokens = event.prompt_tokens;
  total.completion_tokens = event.completion_tokens;
  total.cached_tokens = event.cached_tokens;
  total.elapsed_seconds = event.elapsed_seconds;
  if (event.finish) {
    generation.finished = true;
    --unfinished_;
    total.finish = *event.finish;
    // A cancel is an answer of its own ("abort"); every other abort is an error.
    if (event.finish->type == FinishReason::Type::kAbort &&
        event.finish->error.code() != Code::kCancelled && first_error_.ok())
      first_error_ = event.finish->error;
  }
  if (ended_) return;
  // OpenAI streams never look back, so only the others keep everything.
  if (!stream() || call_.request.api == Api::kNative) {
    total.ids.insert(total.ids.end(), event.ids.begin(), event.ids.end());
    total.text += event.text;
    total.logprobs.insert(total.logprobs.end(), event.logprobs.begin(), event.logprobs.end());
  }
  total.prompt_logprobs.insert(total.prompt_logprobs.end(), event.prompt_logprobs.begin(),
                               event.prompt_logprobs.end());
  if (!stream()) return;
  Merge(generation.pending, std::move(event));
  generation.has_pending = true;
}

void RunningCall::Observe(Generation& generation, const GenerateEvent& event) {
  Metrics& metrics = *environment_.metrics;
  const double now = MonotonicSeconds();
  const auto tokens = static_cast<int64_t>(event.ids.size());
  if (tokens > 0) {
    if (generation.last_event_seconds == 0) {
      metrics.ObserveFirstToken(now - call_.received_seconds, stream());
      metrics.ObserveQueue(event.queue_seconds);
    } else {
      metrics.ObserveTokenGap((now - generation.last_event_seconds) / static_cast<double>(tokens),
                              tokens);
    }
    generation.last_event_seconds = now;
  }
  if (!event.finish) return;
  metrics.ObserveFinished(now - call_.received_seconds, event.prompt_tokens,
                          event.completion_tokens, event.cached_tokens,
                          event.finish->type == FinishReason::Type::kAbort, stream());
}

void RunningCall::Advance() {
  if (!submitted_ || ended_) return;
  if (!first_error_.ok()) return FailWith(first_error_);
  if (stream()) return WriteFrames();
  if (unfinished_ > 0) return;
  ended_ = true;
  std::vector<GenerateResult> results;
  for (Generation& generation : generations_) results.push_back(std::move(generation.total));
  HttpResponse response;
  response.body = format_->Whole(results);
  exchange_->Respond(std::move(response));
}

bool RunningCall::Ripe(const Generation& generation) const {
  if (!generation.has_pending) return false;
  const GenerateEvent& pending = generation.pending;
  if (pending.finish) return true;
  if (pending.ids.empty()) return false;
  if (pending.text.empty() && !format_->streams_ids()) return false;
  const int64_t interval =
      call_.request.stream_interval.value_or(environment_.config->stream_interval);
  return !generation.first_frame_sent || static_cast<int64_t>(pending.ids.size()) >= interval;
}

void RunningCall::WriteFrames() {
  // A peer that does not read keeps events merged here instead of frames in the socket's queue.
  if (!exchange_->writable()) return;
  std::string out;
  for (size_t i = 0; i < generations_.size(); ++i) {
    Generation& generation = generations_[i];
    if (!Ripe(generation)) continue;
    const GenerateEvent news = std::exchange(generation.pending, GenerateEvent());
    generation.has_pending = false;
    generation.first_frame_sent = true;
    format_->AppendFrames(i, news, generation.total, news.finish.has_value(), out);
  }
  if (out.empty()) return;
  if (!stream_started_) {
    stream_started_ = true;
    exchange_->StartStream(kSseContentType,
                           {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}});
  }
  const bool complete = unfinished_ == 0;
  if (complete) {
    std::vector<GenerateResult> results;
    for (Generation& generation : generations_) results.push_back(std::move(generation.total));
    format_->AppendEnd(results, out);
    out += kSseDone;
    ended_ = true;
  }
  exchange_->Write(std::move(out));
  if (complete) exchange_->EndStream();
}

void RunningCall::FailWith(const Status& status) {
  if (ended_) return;
  ended_ = true;
  const ApiError error = ToApiError(status);
  if (!stream_started_) return exchange_->Respond(ErrorResponse(error));
  environment_.metrics->CountInbandError();
  std::string out;
  AppendSse(out, StreamErrorBody(error));
  out += kSseDone;
  exchange_->Write(std::move(out));
  exchange_->EndStream();
}

}  // namespace

void RunCall(const CallEnvironment& environment, Call call, std::shared_ptr<Exchange> exchange) {
  std::make_shared<RunningCall>(environment, std::move(call), std::move(exchange))->Start();
}

}  // namespace sluice
