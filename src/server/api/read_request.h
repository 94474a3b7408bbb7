// Request bodies to CallRequests. Everything a client can write is checked here: types, ranges,
// counts; errors name the field. The functions are pure; a fuzzer runs them on random documents.
#pragma once

#include "base/status.h"
#include "server/api/call.h"

namespace sluice {

/// POST /generate.
Result<CallRequest> ReadGenerateRequest(const boost::json::value& document,
                                        const ApiConfig& config);
/// POST /v1/completions.
Result<CallRequest> ReadCompletionRequest(const boost::json::value& document,
                                          const ApiConfig& config);
/// POST /v1/chat/completions. The result points into `document`.
Result<CallRequest> ReadChatRequest(const boost::json::value& document, const ApiConfig& config);

}  // namespace sluice
