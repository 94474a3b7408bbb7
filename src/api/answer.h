// One answer on its way out: token ids become text, stop strings end it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "engine/request.h"
#include "sluice/engine.h"
#include "text/tokenizer/detokenizer.h"
#include "text/tokenizer/stop_matcher.h"

namespace sluice {

/// Used by the output thread only, but for the constants.
class Answer {
 public:
  /// `tokenizer` may be null (ids only; then `stop` must be empty) and outlives this.
  Answer(std::string id, const GenerateRequest& request, const Tokenizer* tokenizer,
         StopMatcher stop, EventCallback callback, double submitted_seconds);

  /// What the client hears of an event. After one with `finish` nothing more may be heard.
  GenerateEvent Absorb(CoreEvent event, double now);

  const std::string& id() const { return id_; }
  const EventCallback& callback() const { return callback_; }
  /// The client has heard the end, perhaps before the engine (a stop string).
  bool ended() const { return ended_; }

  uint64_t key = 0;  // in the engine core

 private:
  void AddText(int32_t token, GenerateEvent& out);
  void AddFinish(CoreFinish finish, bool admitted, GenerateEvent& out);

  const std::string id_;
  const EventCallback callback_;
  const std::vector<std::string> stops_;
  const bool no_stop_trim_;
  const int64_t prompt_tokens_;
  const double submitted_seconds_;
  std::optional<Detokenizer> detokenizer_;
  StopMatcher stop_;
  int64_t completion_tokens_ = 0;
  bool ended_ = false;
};

}  // namespace sluice
