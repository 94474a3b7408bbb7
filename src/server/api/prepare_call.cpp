#include "server/api/prepare_call.h"

#include <sys/random.h>

#include <array>

#include "base/clock.h"

namespace sluice {
namespace {

// Every answer holds its own copy of the prompt.
constexpr int64_t kAnswerPromptIdsMax = int64_t{16} << 20;

constexpr std::string_view kNoText =
    "this server has no tokenizer (--skip-tokenizer-init): send token ids";

/// The field that the prompt came in.
std::string_view PromptField(Api api) {
  return api == Api::kNative ? "text" : api == Api::kChat ? "messages" : "prompt";
}

Result<Call::Prompt> EncodeOne(const CallRequest& request, const PromptSource& source,
                               const TextService* text) {
  Call::Prompt prompt;
  if (!source.text) {
    prompt.ids = source.ids;
    if (request.echo && text) prompt.text = text->Decode(prompt.ids, false);
    return prompt;
  }
  if (!text) return ParamError(Code::kUnsupported, PromptField(request.api), "{}", kNoText);
  TRY(prompt.ids, text->EncodePrompt(*source.text, true));
  prompt.text = *source.text;
  return prompt;
}

Result<Call::Prompt> EncodeConversation(const CallRequest& request, const TextService* text) {
  if (!text) return ParamError(Code::kUnsupported, "messages", "{}", kNoText);
  if (!text->has_chat_template())
    return ParamError(
        Code::kInvalidArgument, "messages",
        "chat template missing: this model has none; give one with --chat-template, or "
        "use /v1/completions");
  ChatPromptSource chat;
  chat.messages = request.messages;
  chat.tools = request.tools;
  chat.kwargs = request.template_kwargs.empty() ? nullptr : &request.template_kwargs;
  chat.add_generation_prompt = request.add_generation_prompt;
  chat.continue_final_message = request.continue_final_message;
  Call::Prompt prompt;
  TRY(prompt.ids, text->EncodeChat(chat));
  return prompt;
}

/// Prompt and requested tokens against the context.
Status CheckLength(Call::Prompt& prompt, SamplingParams& sampling, const CallRequest& request,
                   const ApiConfig& config) {
  const std::string_view field = PromptField(request.api);
  for (const int32_t id : prompt.ids)
    if (id < 0 || id >= config.vocab_size)
      return ParamError(Code::kInvalidArgument, request.api == Api::kNative ? "input_ids" : field,
                        "token id {} is outside the vocabulary [0, {})", id, config.vocab_size);
  if (prompt.ids.empty()) return ParamError(Code::kInvalidArgument, field, "the prompt is empty");
  auto length = static_cast<int64_t>(prompt.ids.size());
  if (length >= config.context_length) {
    if (!config.allow_auto_truncate || config.context_length < 2)
      return ParamError(
          Code::kContextLength, field,
          "The input ({} tokens) is longer than the model's context length ({} tokens).", length,
          config.context_length);
    length = config.context_length - 1;
    prompt.ids.resize(static_cast<size_t>(length));
  }
  if (sampling.max_new_tokens && *sampling.max_new_tokens > 0 &&
      *sampling.max_new_tokens >= config.context_length - length) {
    if (!config.allow_auto_truncate)
      return ParamError(
          Code::kContextLength, field,
          "Requested token count exceeds the model's maximum context length of {} "
          "tokens. You requested a total of {} tokens: {} tokens from the input and {} "
          "tokens for the completion.",
          config.context_length, length + *sampling.max_new_tokens, length,
          *sampling.max_new_tokens);
    sampling.max_new_tokens.reset();
  }
  return Status();
}

/// The prompts' tokens, counted once an answer: bounded before they are copied.
Status CheckPromptCopies(const Call& call, const CallRequest& request) {
  int64_t ids = 0;
  for (const Call::Prompt& prompt : call.prompts)
    ids += static_cast<int64_t>(prompt.ids.size()) * request.n;
  if (ids <= kAnswerPromptIdsMax) return Status();
  return ParamError(Code::kInvalidArgument, PromptField(request.api),
                    "the prompts of all answers have {} tokens together, allowed are {}", ids,
                    kAnswerPromptIdsMax);
}

Status CheckTextFields(const SamplingParams& sampling, const TextService* text) {
  if (text || sampling.stop.empty()) return Status();
  return ParamError(Code::kUnsupported, "stop",
                    "stop strings need a tokenizer: use stop_token_ids");
}

std::string IdPrefix(Api api) {
  return api == Api::kNative ? "" : api == Api::kChat ? "chatcmpl-" : "cmpl-";
}

/// The engine's id of one generation: the client's own where it gave one for each prompt.
std::string GenerationId(const CallRequest& request, const std::string& base, size_t prompt,
                         int64_t choice, bool single) {
  std::string id = request.rids.size() > 1 ? request.rids[prompt] : base;
  if (single) return id;
  if (request.rids.size() <= 1)
    return id + "_" +
           std::to_string(prompt * static_cast<size_t>(request.n) + static_cast<size_t>(choice));
  return request.n > 1 ? id + "_" + std::to_string(choice) : id;
}

LogprobOptions EngineLogprobs(const CallRequest& request, const LogprobRequest& asked,
                              const ApiConfig& config) {
  LogprobOptions options;
  options.enabled = asked.enabled;
  if (!asked.enabled) return options;
  options.prompt_start = request.output_logprobs_only ? -1 : asked.start;
  options.top = asked.top;
  options.token_ids = asked.token_ids;
  options.raw = config.raw_logprobs.value_or(request.api != Api::kNative);
  return options;
}

}  // namespace

std::string NewRequestId() {
  std::array<unsigned char, 16> bytes{};
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    return fmt::format("{:032x}", static_cast<uint64_t>(MonotonicSeconds() * 1e9));
  std::string id;
  for (const unsigned char byte : bytes) id += fmt::format("{:02x}", byte);
  return id;
}

Result<Call> PrepareCall(CallRequest request, const ApiConfig& config, const TextService* text,
                         double received_seconds) {
  Call call;
  call.created = UnixSeconds();
  call.received_seconds = received_seconds;
  const std::string base = request.rids.size() == 1 ? request.rids[0] : NewRequestId();
  call.id = IdPrefix(request.api) + base;
  if (request.api == Api::kChat) {
    TRY(call.prompts.emplace_back(), EncodeConversation(request, text));
  } else {
    for (const PromptSource& source : request.prompts) {
      TRY(call.prompts.emplace_back(), EncodeOne(request, source, text));
    }
  }
  RETURN_IF_ERROR(CheckPromptCopies(call, request));
  const bool single = call.prompts.size() == 1 && request.n == 1;
  for (size_t p = 0; p < call.prompts.size(); ++p) {
    SamplingParams& sampling = request.sampling[p];
    RETURN_IF_ERROR(CheckTextFields(sampling, text));
    RETURN_IF_ERROR(CheckLength(call.prompts[p], sampling, request, config));
    LogprobRequest& asked = request.logprobs[p];
    const auto length = static_cast<int64_t>(call.prompts[p].ids.size());
    if (asked.enabled && asked.start >= length)
      return ParamError(Code::kInvalidArgument, "logprob_start_len",
                        "logprob_start_len must be below the prompt's {} tokens, found {}", length,
                        asked.start);
    RETURN_IF_ERROR(
        ValidateLogprobs(EngineLogprobs(request, asked, config), config.vocab_size, length));
    for (int64_t choice = 0; choice < request.n; ++choice) {
      GenerateRequest& generation = call.generations.emplace_back();
      generation.id = GenerationId(request, base, p, choice, single);
      generation.input_ids = call.prompts[p].ids;
      generation.sampling = sampling;
      generation.sampling.choice = static_cast<uint32_t>(choice);
      generation.logprobs = EngineLogprobs(request, asked, config);
    }
  }
  request.messages = request.tools = nullptr;  // the document ends before the call does
  call.request = std::move(request);
  return call;
}

}  // namespace sluice
