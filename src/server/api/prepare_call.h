// From a parsed request to engine requests: templates, tokenising, length rules, ids. Runs on a
// worker thread: a long prompt takes time.
#pragma once

#include "server/api/call.h"
#include "server/api/text_service.h"

namespace sluice {

/// `text` is null when only token ids are served. `received_seconds`: MonotonicSeconds() of the
/// request. Errors: kInvalidArgument, kContextLength, kUnsupported (text without tokenizer), each
/// naming its field.
Result<Call> PrepareCall(CallRequest request, const ApiConfig& config, const TextService* text,
                         double received_seconds);

/// 32 hexadecimal digits, unpredictable.
std::string NewRequestId();

}  // namespace sluice
