// Routes that need the tokenizer or the engine. They run on worker threads.
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "base/clock.h"
#include "server/api/api_error.h"
#include "server/api/openai_common.h"
#include "server/api/prepare_call.h"
#include "server/api/read_request.h"
#include "server/api/read_sampling.h"
#include "server/api/run_call.h"
#include "server/app.h"
#include "server/json/json_reader.h"
#include "server/json/json_writer.h"

namespace sluice {
namespace {

Result<CallRequest> ReadRequest(Api api, const boost::json::value& document,
                                const ApiConfig& config) {
  switch (api) {
    case Api::kNative: return ReadGenerateRequest(document, config);
    case Api::kCompletion: return ReadCompletionRequest(document, config);
    case Api::kChat: return ReadChatRequest(document, config);
  }
  return Error(Code::kInternal, "unknown API");
}

Result<Call> ReadCall(Api api, const std::string& body, const ApiConfig& config,
                      const TextService* text, double received_seconds) {
  TRY(const boost::json::value document, ParseJson(body));
  TRY(CallRequest request, ReadRequest(api, document, config));
  return PrepareCall(std::move(request), config, text, received_seconds);
}

Status NeedText(const TextService* text) {
  if (text) return Status();
  return Error(Code::kUnsupported, "this server has no tokenizer (--skip-tokenizer-init)");
}

/// prompt or messages, to ids.
Result<std::vector<int32_t>> TokenizeBody(const std::string& body, const ApiConfig& config,
                                          const TextService* text, bool& with_strings) {
  RETURN_IF_ERROR(NeedText(text));
  TRY(const boost::json::value document, ParseJson(body));
  if (!document.is_object())
    return Error(Code::kInvalidArgument, "the request body must be a JSON object, found {}",
                 Describe(document));
  const FieldReader fields(document.get_object());
  RETURN_IF_ERROR(fields.Bool("return_token_strs", with_strings));
  if (fields.Has("messages")) {
    TRY(CallRequest chat, ReadChatRequest(document, config));
    ChatPromptSource source;
    source.messages = chat.messages;
    source.tools = chat.tools;
    source.kwargs = chat.template_kwargs.empty() ? nullptr : &chat.template_kwargs;
    source.add_generation_prompt = chat.add_generation_prompt;
    source.continue_final_message = chat.continue_final_message;
    return text->EncodeChat(source);
  }
  if (!fields.Has("prompt"))
    return ParamError(Code::kMissingParameter, "prompt", "prompt (or messages) is missing");
  std::string prompt;
  RETURN_IF_ERROR(fields.String("prompt", prompt, body.size()));
  bool add_special_tokens = true;
  RETURN_IF_ERROR(fields.Bool("add_special_tokens", add_special_tokens));
  return text->EncodePrompt(prompt, add_special_tokens);
}

Result<std::string> DetokenizeBody(const std::string& body, const TextService* text) {
  RETURN_IF_ERROR(NeedText(text));
  TRY(const boost::json::value document, ParseJson(body));
  if (!document.is_object())
    return Error(Code::kInvalidArgument, "the request body must be a JSON object, found {}",
                 Describe(document));
  const FieldReader fields(document.get_object());
  if (!fields.Has("tokens"))
    return ParamError(Code::kMissingParameter, "tokens", "tokens is missing");
  std::vector<int32_t> ids;
  RETURN_IF_ERROR(fields.Ids("tokens", ids, kPromptIdsMax));
  bool skip_special = false;
  RETURN_IF_ERROR(fields.Bool("skip_special_tokens", skip_special));
  return text->Decode(ids, skip_special);
}

}  // namespace

void App::Generate(const ExchangePtr& exchange) { StartCall(exchange, Api::kNative); }
void App::Completions(const ExchangePtr& exchange) { StartCall(exchange, Api::kCompletion); }
void App::ChatCompletions(const ExchangePtr& exchange) { StartCall(exchange, Api::kChat); }

void App::StartCall(const ExchangePtr& exchange, Api api) {
  const double received = exchange->request().received_seconds;
  auto call = ReadCall(api, exchange->TakeBody(), config_, text_, received);
  if (!call.ok()) return exchange->Respond(ErrorResponse(ToApiError(call.status())));
  RunCall({engine_, text_, &metrics_, &config_}, std::move(*call), exchange);
}

void App::Tokenize(const ExchangePtr& exchange) {
  bool with_strings = false;
  const auto ids = TokenizeBody(exchange->TakeBody(), config_, text_, with_strings);
  if (!ids.ok()) return exchange->Respond(ErrorResponse(ToApiError(ids.status())));
  JsonWriter json;
  json.BeginObject().Key("tokens");
  WriteIds(json, *ids);
  json.Key("count").Uint(ids->size()).Key("max_model_len").Int(config_.context_length);
  if (with_strings) {
    json.Key("token_strs").BeginArray();
    for (const int32_t id : *ids) json.String(text_->TokenBytes(id));
    json.EndArray();
  }
  json.EndObject();
  exchange->Respond({.body = json.Take()});
}

void App::Detokenize(const ExchangePtr& exchange) {
  const auto text = DetokenizeBody(exchange->TakeBody(), text_);
  if (!text.ok()) return exchange->Respond(ErrorResponse(ToApiError(text.status())));
  JsonWriter json;
  json.BeginObject().Key("prompt").String(*text).Key("text").String(*text).EndObject();
  exchange->Respond({.body = json.Take()});
}

}  // namespace sluice
