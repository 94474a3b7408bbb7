#include "cli/run.h"

#include <fmt/format.h>

#include <boost/json.hpp>

#include <charconv>
#include <cstdio>
#include <iostream>
#include <iterator>

#include "base/status.h"
#include "cli/answer.h"
#include "text/front.h"

namespace sluice {
namespace {

Result<std::vector<int32_t>> ParseIds(std::string_view text) {
  std::vector<int32_t> ids;
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    std::string_view word = text.substr(at, comma - at);
    while (!word.empty() && word.front() == ' ') word.remove_prefix(1);
    int32_t id = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || end != word.data() + word.size())
      return ParamError(Code::kInvalidArgument, "input-ids",
                        "input-ids has {}, allowed are token ids separated by commas",
                        Quoted(word));
    ids.push_back(id);
    at = comma + 1;
  }
  return ids;
}

Result<std::vector<int32_t>> EncodeText(const RunOptions& options, const TextFront& text) {
  std::string prompt = options.prompt;
  if (prompt == "-")
    prompt.assign(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
  if (options.raw || !text.has_chat_template()) return text.EncodePrompt(prompt);
  boost::json::array messages;
  if (!options.system.empty())
    messages.push_back({{"role", "system"}, {"content", options.system}});
  messages.push_back({{"role", "user"}, {"content", prompt}});
  const boost::json::value value = std::move(messages);
  boost::json::object kwargs;
  if (options.enable_thinking) kwargs["enable_thinking"] = *options.enable_thinking;
  TRY(ChatPrompt chat, text.EncodeChat({.messages = &value, .kwargs = &kwargs}));
  return std::move(chat.ids);
}

Status RunOnce(const RunOptions& options) {
  TRY(const auto engine, Engine::Open(options.engine));
  GenerateRequest request;
  request.sampling = SamplingFrom(options, engine->info());
  const bool ids = !options.input_ids.empty();
  if (ids) {
    TRY(request.input_ids, ParseIds(options.input_ids));
  } else if (!engine->text()) {
    return ParamError(Code::kInvalidArgument, "prompt",
                      "this model has no tokenizer: give token ids with --input-ids 1,2,3");
  } else {
    TRY(request.input_ids, EncodeText(options, *engine->text()));
  }
  const InterruptScope interrupts;
  double first_token_seconds = -1;
  const char* separator = "";
  TRY(const GenerateResult result,
      StreamAnswer(*engine, std::move(request), [&](const GenerateEvent& event) {
        if (first_token_seconds < 0 && !event.ids.empty())
          first_token_seconds = event.elapsed_seconds;
        if (ids) {
          for (const int32_t id : event.ids) {
            fmt::print("{}{}", separator, id);
            separator = ",";
          }
        } else {
          std::fwrite(event.text.data(), 1, event.text.size(), stdout);
        }
        std::fflush(stdout);
      }));
  std::fputc('\n', stdout);
  if (options.show_timing) fmt::print(stderr, "{}\n", DescribeTiming(result, first_token_seconds));
  return result.finish.type == FinishReason::Type::kAbort ? result.finish.error : Status();
}

}  // namespace

SamplingParams SamplingFrom(const RunOptions& options, const EngineInfo& info) {
  SamplingParams sampling = info.defaults;
  sampling.max_new_tokens = options.max_new_tokens;
  if (options.temperature) sampling.temperature = *options.temperature;
  if (options.top_p) sampling.top_p = *options.top_p;
  if (options.top_k) sampling.top_k = *options.top_k;
  if (options.seed) sampling.seed = *options.seed;
  sampling.ignore_eos = options.ignore_eos;
  return sampling;
}

int RunPrompt(const RunOptions& options) {
  const Status status = RunOnce(options);
  if (status.ok()) return 0;
  if (status.code() == Code::kCancelled) return 130;
  fmt::print(stderr, "sluice run: {}\n", status.message());
  return status.code() == Code::kInternal ? 1 : 2;
}

}  // namespace sluice
