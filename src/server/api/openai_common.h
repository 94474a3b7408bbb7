// What the two OpenAI formats share.
#pragma once

#include <span>
#include <vector>

#include "server/api/call.h"
#include "server/json/json_writer.h"

namespace sluice {

/// "stop", "length" or "abort".
std::string_view FinishName(const FinishReason& finish);
/// The stop string or id that ended the answer, or null.
void WriteMatchedStop(JsonWriter& json, const FinishReason& finish);
/// {prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details}: each prompt counts
/// once.
void WriteUsage(JsonWriter& json, const Call& call, const std::vector<GenerateResult>& results);
/// id, object, created, model.
void WriteOpenAiHead(JsonWriter& json, const Call& call, std::string_view object);
void WriteIds(JsonWriter& json, std::span<const int32_t> ids);
/// The last frame of a stream whose client asked for usage: no choices, the usage of all of them.
void AppendUsageFrame(const Call& call, std::string_view object,
                      const std::vector<GenerateResult>& results, std::string& out);

}  // namespace sluice
