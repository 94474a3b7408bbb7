#include "server/api/openai_common.h"

#include "server/api/sse.h"

namespace sluice {

std::string_view FinishName(const FinishReason& finish) {
  switch (finish.type) {
    case FinishReason::Type::kStop: return "stop";
    case FinishReason::Type::kLength: return "length";
    case FinishReason::Type::kAbort: return "abort";
  }
  return "abort";
}

void WriteMatchedStop(JsonWriter& json, const FinishReason& finish) {
  if (finish.matched_string) {
    json.String(*finish.matched_string);
  } else if (finish.matched_token) {
    json.Int(*finish.matched_token);
  } else {
    json.Null();
  }
}

void WriteUsage(JsonWriter& json, const Call& call, const std::vector<GenerateResult>& results) {
  int64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
  for (const Call::Prompt& prompt : call.prompts)
    prompt_tokens += static_cast<int64_t>(prompt.ids.size());
  for (size_t i = 0; i < results.size(); ++i) {
    completion_tokens += results[i].completion_tokens;
    if (i % static_cast<size_t>(call.request.n) == 0) cached_tokens += results[i].cached_tokens;
  }
  json.BeginObject().Key("prompt_tokens").Int(prompt_tokens);
  json.Key("completion_tokens").Int(completion_tokens);
  json.Key("total_tokens").Int(prompt_tokens + completion_tokens);
  json.Key("prompt_tokens_details")
      .BeginObject()
      .Key("cached_tokens")
      .Int(cached_tokens)
      .EndObject();
  json.EndObject();
}

void WriteOpenAiHead(JsonWriter& json, const Call& call, std::string_view object) {
  json.Key("id").String(call.id).Key("object").String(object);
  json.Key("created").Int(call.created).Key("model").String(call.request.model);
}

void WriteIds(JsonWriter& json, std::span<const int32_t> ids) {
  json.BeginArray();
  for (const int32_t id : ids) json.Int(id);
  json.EndArray();
}

void AppendUsageFrame(const Call& call, std::string_view object,
                      const std::vector<GenerateResult>& results, std::string& out) {
  JsonWriter json;
  json.BeginObject();
  WriteOpenAiHead(json, call, object);
  json.Key("choices").BeginArray().EndArray().Key("usage");
  WriteUsage(json, call, results);
  json.EndObject();
  AppendSse(out, json.text());
}

}  // namespace sluice
