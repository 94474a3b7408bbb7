// POST /v1/completions and /v1/chat/completions.
#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "server/api/read_request.h"
#include "server/api/read_sampling.h"
#include "server/json/utf8.h"

namespace sluice {
namespace {

namespace json = boost::json;

constexpr int64_t kTokensMax = std::numeric_limits<int32_t>::max();
constexpr int64_t kCompletionTokensDefault = 16;

Status ReadOpenAiSampling(const FieldReader& fields, const ApiConfig& config,
                          SamplingParams& sampling) {
  const SamplingParams& defaults = config.openai_defaults;
  sampling.temperature = defaults.temperature;
  sampling.top_p = defaults.top_p;
  sampling.top_k = defaults.top_k;
  sampling.min_p = defaults.min_p;
  sampling.repetition_penalty = defaults.repetition_penalty;
  RETURN_IF_ERROR(ReadCommonSampling(fields, sampling));
  RETURN_IF_ERROR(fields.Int("min_tokens", sampling.min_new_tokens, 0, kTokensMax));
  RETURN_IF_ERROR(ReadSeed(fields, "seed", sampling));
  return CheckSampling(fields, sampling, config);
}

Status ReadPrompt(const FieldReader& fields, CallRequest& call) {
  const json::value* prompt = fields.Find("prompt");
  if (!prompt) return ParamError(Code::kMissingParameter, "prompt", "prompt is missing");
  if (prompt->is_string()) {
    call.prompts.push_back({std::string(View(prompt->get_string())), {}});
    return Status();
  }
  constexpr std::string_view kWanted =
      "a string, an array of strings or of token ids, or an array of arrays of token ids";
  if (!prompt->is_array() || prompt->get_array().empty())
    return fields.WrongType("prompt", *prompt, fmt::format("{}, not empty", kWanted));
  const json::array& list = prompt->get_array();
  if (list[0].is_number()) {
    call.prompts.emplace_back();
    return fields.Ids("prompt", call.prompts[0].ids, kPromptIdsMax);
  }
  if (list.size() > kPromptsMax)
    return fields.WrongType("prompt", *prompt, fmt::format("at most {} prompts", kPromptsMax));
  for (const json::value& item : list) {
    PromptSource& source = call.prompts.emplace_back();
    if (item.is_string() && list[0].is_string()) {
      source.text = std::string(View(item.get_string()));
    } else if (item.is_array() && list[0].is_array()) {
      const json::object one{{"prompt", item}};
      RETURN_IF_ERROR(FieldReader(one).Ids("prompt", source.ids, kPromptIdsMax));
    } else {
      return fields.WrongType("prompt", item, kWanted);
    }
  }
  return Status();
}

/// Only text can be promised without grammars.
Status CheckResponseFormat(const FieldReader& fields) {
  const json::object* format = nullptr;
  RETURN_IF_ERROR(fields.Object("response_format", format));
  if (!format) return Status();
  std::string type;
  RETURN_IF_ERROR(FieldReader(*format, "response_format.").String("type", type, 64));
  if (type.empty())
    return ParamError(Code::kMissingParameter, "response_format.type",
                      "response_format.type is missing");
  if (type == "text") return Status();
  return ParamError(Code::kUnsupported, "response_format",
                    "response_format {} is not supported by this server, only \"text\"",
                    Quoted(type));
}

Status CheckToolChoice(const FieldReader& fields, CallRequest& call) {
  const json::value* choice = fields.Find("tool_choice");
  if (!choice) return Status();
  if (choice->is_string()) {
    const std::string_view name = View(choice->get_string());
    if (name == "auto") return Status();
    if (name == "none") {
      call.tools = nullptr;  // the template does not see them
      return Status();
    }
    if (name != "required") return fields.WrongType("tool_choice", *choice, "\"none\" or \"auto\"");
  } else if (!choice->is_object()) {
    return fields.WrongType("tool_choice", *choice, "a string or an object");
  }
  return ParamError(
      Code::kUnsupported, "tool_choice",
      "a forced tool_choice is not supported by this server, only \"none\" and \"auto\"");
}

Status ReadTools(const FieldReader& fields, CallRequest& call) {
  const json::array* tools = nullptr;
  RETURN_IF_ERROR(fields.Array("tools", tools));
  if (tools && tools->size() > kToolsMax)
    return ParamError(Code::kInvalidArgument, "tools", "tools has {} entries, allowed are {}",
                      tools->size(), kToolsMax);
  if (tools) {
    for (size_t i = 0; i < tools->size(); ++i)
      if (!(*tools)[i].is_object())
        return ParamError(Code::kInvalidArgument, fmt::format("tools[{}]", i),
                          "tools[{}] must be an object, found {}", i, Describe((*tools)[i]));
    if (!tools->empty()) call.tools = fields.Find("tools");
  }
  return CheckToolChoice(fields, call);
}

Status ReadMessages(const FieldReader& fields, CallRequest& call) {
  const json::array* messages = nullptr;
  RETURN_IF_ERROR(fields.Array("messages", messages));
  if (!messages) return ParamError(Code::kMissingParameter, "messages", "messages is missing");
  if (messages->empty() || messages->size() > kMessagesMax)
    return ParamError(Code::kInvalidArgument, "messages",
                      "messages must have 1 to {} entries, found {}", kMessagesMax,
                      messages->size());
  for (size_t i = 0; i < messages->size(); ++i) {
    const std::string name = fmt::format("messages[{}]", i);
    const json::value& message = (*messages)[i];
    if (!message.is_object())
      return ParamError(Code::kInvalidArgument, name, "{} must be an object, found {}", name,
                        Describe(message));
    const std::string prefix = name + ".";
    const FieldReader message_fields(message.get_object(), prefix);
    std::string role;
    RETURN_IF_ERROR(message_fields.String("role", role, 64));
    if (role.empty())
      return ParamError(Code::kMissingParameter, name + ".role", "{}.role is missing", name);
    const json::value* content = message_fields.Find("content");
    if (content && !content->is_string() && !content->is_array())
      return message_fields.WrongType("content", *content, "a string or an array of parts");
  }
  call.messages = fields.Find("messages");
  return Status();
}

Status ReadMaxTokens(const FieldReader& fields, SamplingParams& sampling) {
  std::optional<int64_t> tokens, completion_tokens;
  RETURN_IF_ERROR(fields.Int("max_tokens", tokens, 1, kTokensMax));
  RETURN_IF_ERROR(fields.Int("max_completion_tokens", completion_tokens, 1, kTokensMax));
  sampling.max_new_tokens = tokens;
  if (completion_tokens)
    sampling.max_new_tokens = tokens ? std::min(*tokens, *completion_tokens) : *completion_tokens;
  return Status();
}

Status ReadTemplateOptions(const FieldReader& fields, CallRequest& call) {
  const json::object* kwargs = nullptr;
  RETURN_IF_ERROR(fields.Object("chat_template_kwargs", kwargs));
  if (kwargs) call.template_kwargs = *kwargs;
  std::string effort;
  RETURN_IF_ERROR(fields.String("reasoning_effort", effort, 64));
  if (!effort.empty() && !call.template_kwargs.contains("reasoning_effort"))
    call.template_kwargs["reasoning_effort"] = effort;
  RETURN_IF_ERROR(fields.Bool("continue_final_message", call.continue_final_message));
  call.add_generation_prompt = !call.continue_final_message;
  RETURN_IF_ERROR(fields.Bool("add_generation_prompt", call.add_generation_prompt));
  if (call.continue_final_message && call.add_generation_prompt)
    return ParamError(Code::kInvalidArgument, "continue_final_message",
                      "continue_final_message and add_generation_prompt exclude each other");
  return Status();
}

Status CheckObject(const json::value& document) {
  if (document.is_object()) return Status();
  return Error(Code::kInvalidArgument, "the request body must be a JSON object, found {}",
               Describe(document));
}

}  // namespace

Result<CallRequest> ReadCompletionRequest(const json::value& document, const ApiConfig& config) {
  RETURN_IF_ERROR(CheckObject(document));
  const FieldReader fields(document.get_object());
  CallRequest call;
  call.api = Api::kCompletion;
  RETURN_IF_ERROR(ReadOpenAiCommon(fields, config, call));
  RETURN_IF_ERROR(RefuseUnsupported(fields, {"suffix", "prompt_logprobs"}));
  RETURN_IF_ERROR(CheckResponseFormat(fields));
  RETURN_IF_ERROR(ReadPrompt(fields, call));
  RETURN_IF_ERROR(CheckAnswers(call, "n"));
  RETURN_IF_ERROR(fields.Bool("echo", call.echo));
  int64_t best_of = call.n;
  RETURN_IF_ERROR(fields.Int("best_of", best_of, 1, kChoicesMax));
  if (best_of != call.n)
    return ParamError(Code::kUnsupported, "best_of", "best_of must equal n, found {} and {}",
                      best_of, call.n);

  SamplingParams sampling;
  sampling.max_new_tokens = kCompletionTokensDefault;
  RETURN_IF_ERROR(fields.Int("max_tokens", sampling.max_new_tokens, call.echo ? 0 : 1, kTokensMax));
  RETURN_IF_ERROR(ReadOpenAiSampling(fields, config, sampling));
  LogprobRequest logprobs;
  std::optional<int64_t> top;
  RETURN_IF_ERROR(fields.Int("logprobs", top, 0, config.max_logprobs));
  if (top) {
    logprobs.enabled = true;
    logprobs.top = static_cast<int32_t>(*top);
    logprobs.start = call.echo ? 0 : -1;
  }
  if (call.rids.size() > 1 && call.rids.size() != call.prompts.size())
    return ParamError(Code::kInvalidArgument, "rid", "rid has {} entries for {} prompts",
                      call.rids.size(), call.prompts.size());
  call.sampling.assign(call.prompts.size(), sampling);
  call.logprobs.assign(call.prompts.size(), logprobs);
  return call;
}

Result<CallRequest> ReadChatRequest(const json::value& document, const ApiConfig& config) {
  RETURN_IF_ERROR(CheckObject(document));
  const FieldReader fields(document.get_object());
  CallRequest call;
  call.api = Api::kChat;
  RETURN_IF_ERROR(ReadOpenAiCommon(fields, config, call));
  RETURN_IF_ERROR(RefuseUnsupported(fields, {"functions", "function_call", "audio"}));
  RETURN_IF_ERROR(CheckResponseFormat(fields));
  RETURN_IF_ERROR(ReadMessages(fields, call));
  RETURN_IF_ERROR(ReadTools(fields, call));
  RETURN_IF_ERROR(ReadTemplateOptions(fields, call));
  if (call.rids.size() > 1)
    return ParamError(Code::kInvalidArgument, "rid", "rid has {} entries for one prompt",
                      call.rids.size());

  SamplingParams sampling;
  RETURN_IF_ERROR(ReadMaxTokens(fields, sampling));
  RETURN_IF_ERROR(ReadOpenAiSampling(fields, config, sampling));
  LogprobRequest logprobs;
  std::optional<int64_t> top;
  RETURN_IF_ERROR(fields.Bool("logprobs", logprobs.enabled));
  RETURN_IF_ERROR(fields.Int("top_logprobs", top, 0, config.max_logprobs));
  if (top && *top > 0 && !logprobs.enabled)
    return ParamError(Code::kInvalidArgument, "top_logprobs",
                      "top_logprobs needs logprobs to be true");
  logprobs.top = static_cast<int32_t>(top.value_or(0));
  call.sampling.push_back(std::move(sampling));
  call.logprobs.push_back(std::move(logprobs));
  return call;
}

}  // namespace sluice
