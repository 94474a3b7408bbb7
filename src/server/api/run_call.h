// Runs a call: submits its generations, gathers their events, and answers, in one piece or as a
// stream. A stream's headers are sent with the first result: what fails before has a real status.
#pragma once

#include <memory>

#include "server/api/answer_format.h"
#include "server/api/call.h"
#include "server/http/message.h"
#include "server/metrics.h"

namespace sluice {

struct CallEnvironment {
  Engine* engine = nullptr;
  const TextService* text = nullptr;  // or null
  Metrics* metrics = nullptr;
  const ApiConfig* config = nullptr;
};

/// Returns once everything is submitted; the answer follows from the engine's output threads. All
/// of `environment` must outlive the call.
void RunCall(const CallEnvironment& environment, Call call, std::shared_ptr<Exchange> exchange);

}  // namespace sluice
