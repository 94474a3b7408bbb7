#include "server/api/read_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/json/json_reader.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ApiConfig Config() {
  ApiConfig config;
  config.model_name = "m";
  config.vocab_size = 300;
  config.context_length = 4096;
  config.openai_defaults.temperature = 0.6;
  return config;
}

Result<CallRequest> Read(Api api, const std::string& text) {
  static boost::json::value document;  // chat requests point into it
  TRY(document, ParseJson(text));
  switch (api) {
    case Api::kNative: return ReadGenerateRequest(document, Config());
    case Api::kCompletion: return ReadCompletionRequest(document, Config());
    case Api::kChat: return ReadChatRequest(document, Config());
  }
  return Error(Code::kInternal, "no such API");
}

struct Row {
  Api api;
  std::string body;
  const char* param;
  Code code = Code::kInvalidArgument;
};

std::string Chat(const std::string& more) {
  return R"({"messages": [{"role": "user", "content": "x"}], )" + more + "}";
}
std::string Completion(const std::string& more) { return R"({"prompt": "x", )" + more + "}"; }
std::string Sampling(const std::string& more) {
  return R"({"text": "x", "sampling_params": {)" + more + "}}";
}

std::string ManyBiases() {
  std::string text = "\"logit_bias\": {\"0\": 1";
  for (int i = 1; i <= 1024; ++i) text += ", \"" + std::to_string(i) + "\": 1";
  return text + "}";
}

std::vector<Row> Refusals() {
  std::vector<Row> rows = {
      {Api::kNative, "[]", ""},
      {Api::kNative, "{}", "text", Code::kMissingParameter},
      {Api::kNative, R"({"text": "a", "input_ids": [1]})", "text"},
      {Api::kNative, R"({"text": 5})", "text"},
      {Api::kNative, R"({"text": ["a", 5]})", "text"},
      {Api::kNative, R"({"input_ids": [1, -1]})", "input_ids"},
      {Api::kNative, R"({"input_ids": [1, 2.5]})", "input_ids"},
      {Api::kNative, R"({"input_ids": [[1], 2]})", "input_ids"},
      {Api::kNative, R"({"input_ids": [1, null]})", "input_ids"},
      {Api::kNative, R"({"text": "a", "rid": ["a", "b"]})", "rid"},
      {Api::kNative, R"({"text": "a", "rid": ""})", "rid"},
      {Api::kNative, R"({"text": "a", "stream": 1})", "stream"},
      {Api::kNative, R"({"text": "a", "image_data": "x"})", "image_data", Code::kUnsupported},
      {Api::kNative, R"({"text": "a", "lora_path": "x"})", "lora_path", Code::kUnsupported},
      {Api::kNative, R"({"text": "a", "top_logprobs_num": 1000000})", "top_logprobs_num"},
      {Api::kNative, R"({"text": "a", "logprob_start_len": -2})", "logprob_start_len"},
      {Api::kNative, R"({"text": ["a", "b"], "return_logprob": [true]})", "return_logprob"},
      {Api::kNative, R"({"text": ["a", "b"], "sampling_params": [{}]})", "sampling_params"},
      {Api::kNative, R"({"text": ["a", "b"], "sampling_params": [{"n": 1}, {"n": 2}]})",
       "sampling_params"},
      {Api::kNative, R"({"text": "a", "sampling_params": 5})", "sampling_params"},
      {Api::kNative, Sampling(R"("surprise": 1)"), "sampling_params"},
      {Api::kNative, Sampling(R"("max_new_tokens": -1)"), "sampling_params.max_new_tokens"},
      {Api::kNative, Sampling(R"("max_new_tokens": 1e10)"), "sampling_params.max_new_tokens"},
      {Api::kNative, Sampling(R"("temperature": -1)"), "sampling_params.temperature"},
      {Api::kNative, Sampling(R"("top_p": 0)"), "sampling_params.top_p"},
      {Api::kNative, Sampling(R"("regex": "a+")"), "sampling_params.regex", Code::kUnsupported},
      {Api::kNative, Sampling(R"("regex": "a", "ebnf": "b")"), "sampling_params"},
      {Api::kNative, Sampling(R"("n": 0)"), "sampling_params.n"},
      {Api::kCompletion, "{}", "prompt", Code::kMissingParameter},
      {Api::kCompletion, R"({"prompt": []})", "prompt"},
      {Api::kCompletion, R"({"prompt": ["a", 1]})", "prompt"},
      {Api::kCompletion, R"({"prompt": [1, "a"]})", "prompt"},
      {Api::kCompletion, R"({"prompt": {"a": 1}})", "prompt"},
      {Api::kCompletion, Completion(R"("max_tokens": 0)"), "max_tokens"},
      {Api::kCompletion, Completion(R"("logprobs": 21)"), "logprobs"},
      {Api::kCompletion, Completion(R"("best_of": 3)"), "best_of", Code::kUnsupported},
      {Api::kCompletion, Completion(R"("suffix": "x")"), "suffix", Code::kUnsupported},
      {Api::kCompletion, Completion(R"("model": 5)"), "model"},
      {Api::kChat, "{}", "messages", Code::kMissingParameter},
      {Api::kChat, R"({"messages": []})", "messages"},
      {Api::kChat, R"({"messages": "hi"})", "messages"},
      {Api::kChat, R"({"messages": ["hi"]})", "messages[0]"},
      {Api::kChat, R"({"messages": [{"content": "x"}]})", "messages[0].role",
       Code::kMissingParameter},
      {Api::kChat, R"({"messages": [{"role": "user", "content": 5}]})", "messages[0].content"},
      {Api::kChat, Chat(R"("top_logprobs": 5)"), "top_logprobs"},
      {Api::kChat, Chat(R"("logprobs": true, "top_logprobs": 1000000)"), "top_logprobs"},
      {Api::kChat, Chat(R"("logprobs": 5)"), "logprobs"},
      {Api::kChat, Chat(R"("tools": {"a": 1})"), "tools"},
      {Api::kChat, Chat(R"("tools": [5])"), "tools[0]"},
      {Api::kChat, Chat(R"("tool_choice": "required")"), "tool_choice", Code::kUnsupported},
      {Api::kChat, Chat(R"("tool_choice": "perhaps")"), "tool_choice"},
      {Api::kChat, Chat(R"("functions": [{}])"), "functions", Code::kUnsupported},
      {Api::kChat, Chat(R"("response_format": {"type": "json_object"})"), "response_format",
       Code::kUnsupported},
      {Api::kChat, Chat(R"("response_format": {})"), "response_format.type",
       Code::kMissingParameter},
      {Api::kChat, Chat(R"("chat_template_kwargs": [])"), "chat_template_kwargs"},
      {Api::kChat, Chat(R"("stream_options": {"include_usage": 1})"),
       "stream_options.include_usage"},
      {Api::kChat, Chat(R"("continue_final_message": true, "add_generation_prompt": true)"),
       "continue_final_message"},
      {Api::kChat, Chat(ManyBiases()), "logit_bias"},
  };
  // The same lies about numbers on every integer and every number field.
  for (const char* value : {"0", "-1", "4294967296", "9223372036854775808", "1.5", "\"12\"", "[]"})
    for (const char* field : {"n", "max_tokens"})
      rows.push_back({Api::kChat, Chat(fmt::format("\"{}\": {}", field, value)), field});
  for (const char* value : {"-1", "9223372036854775808", "1.5", "\"12\"", "true"})
    rows.push_back({Api::kChat, Chat(fmt::format("\"seed\": {}", value)), "seed"});
  for (const char* value : {"\"1\"", "[]", "-3", "3", "1e300"})
    for (const char* field :
         {"frequency_penalty", "presence_penalty", "repetition_penalty", "min_p"})
      rows.push_back({Api::kChat, Chat(fmt::format("\"{}\": {}", field, value)), field});
  for (const char* value : {R"({"x": 1})", R"({"300": 1})", R"({"1": "a"})", R"({"1": 1e300})",
                            R"({"-1": 1})", R"({"1": 101})", "[]"})
    rows.push_back({Api::kChat, Chat(fmt::format("\"logit_bias\": {}", value)), "logit_bias"});
  for (const char* value : {R"("")", R"(["a", ""])", R"(["a", null])", "5",
                            R"(["","","","","","","","","","","","","","","","",""])"})
    rows.push_back({Api::kChat, Chat(fmt::format("\"stop\": {}", value)), "stop"});
  for (const char* value : {"[null]", "[-1]", "[300]", "[1.5]", "5"})
    rows.push_back(
        {Api::kChat, Chat(fmt::format("\"stop_token_ids\": {}", value)), "stop_token_ids"});
  return rows;
}

TEST(ReadRequest, RefusesEachLieAndNamesTheField) {
  for (const Row& row : Refusals()) {
    const auto call = Read(row.api, row.body);
    ASSERT_FALSE(call.ok()) << row.body;
    EXPECT_EQ(call.status().code(), row.code) << row.body << ": " << call.status().message();
    EXPECT_EQ(call.status().param(), row.param) << row.body << ": " << call.status().message();
  }
}

TEST(ReadRequest, UsesSglangsWords) {
  EXPECT_THAT(Read(Api::kNative, Sampling(R"("temperature": -1)")).status().message(),
              HasSubstr("temperature must be non-negative"));
  EXPECT_THAT(Read(Api::kNative, Sampling(R"("top_p": 2)")).status().message(),
              HasSubstr("top_p must be in (0, 1]"));
  EXPECT_THAT(Read(Api::kNative, Sampling(R"("max_new_tokens": -1)")).status().message(),
              HasSubstr("max_new_tokens must be at least 0"));
  EXPECT_THAT(
      Read(Api::kNative, Sampling(R"("regex": "a", "json_schema": "b")")).status().message(),
      HasSubstr("Only one of regex, json_schema, or ebnf can be set."));
}

TEST(ReadRequest, FillsInDefaults) {
  const auto native = Read(Api::kNative, R"({"text": "x"})");
  EXPECT_EQ(native->sampling[0].max_new_tokens, 128);
  EXPECT_EQ(native->sampling[0].temperature, 1.0);
  EXPECT_FALSE(native->list_answer);
  const auto completion = Read(Api::kCompletion, R"({"prompt": "x", "temperature": null})");
  EXPECT_EQ(completion->sampling[0].max_new_tokens, 16);
  EXPECT_EQ(completion->sampling[0].temperature, 0.6);  // the model's own
  const auto chat =
      Read(Api::kChat, R"({"messages": [{"role": "user", "content": null, "name": null}]})");
  ASSERT_TRUE(chat.ok()) << chat.status().message();
  EXPECT_EQ(chat->sampling[0].max_new_tokens, std::nullopt);  // the rest of the context
}

TEST(ReadRequest, LaysPreferredSamplingUnderNativeRequestsOnly) {
  ApiConfig config = Config();
  config.preferred_sampling = {{"temperature", 0.25}, {"top_k", 7}, {"n", 2}};
  const auto read = [&](const char* text) {
    const auto document = ParseJson(text);
    return ReadGenerateRequest(*document, config);
  };
  auto call = read(R"({"text": ["x", "y"], "sampling_params": [{"top_k": 3}, null]})");
  ASSERT_TRUE(call.ok()) << call.status().message();
  EXPECT_EQ(call->sampling[0].temperature, 0.25);
  EXPECT_EQ(call->sampling[0].top_k, 3);
  EXPECT_EQ(call->sampling[1].top_k, 7);
  EXPECT_EQ(call->n, 2);
  EXPECT_EQ(read(R"({"text": "x"})")->sampling[0].top_k, 7);
  const auto document = ParseJson(R"({"prompt": "x"})");
  EXPECT_EQ(ReadCompletionRequest(*document, config)->sampling[0].temperature, 0.6);
}

TEST(ReadRequest, ReadsBatchesAndLists) {
  auto call = Read(Api::kNative, R"({"input_ids": [[1, 2], [3]], "return_logprob": [true, false],
      "top_logprobs_num": 2, "token_ids_logprob": [[5], null], "rid": ["a", "b"],
      "sampling_params": [{"n": 2, "max_new_tokens": null}, {"n": 2, "sampling_seed": 7}]})");
  ASSERT_TRUE(call.ok()) << call.status().message();
  EXPECT_EQ(call->prompts.size(), 2u);
  EXPECT_THAT(call->prompts[0].ids, ElementsAre(1, 2));
  EXPECT_TRUE(call->logprobs[0].enabled);
  EXPECT_FALSE(call->logprobs[1].enabled);
  EXPECT_EQ(call->logprobs[1].top, 2);
  EXPECT_THAT(call->logprobs[0].token_ids, ElementsAre(5));
  EXPECT_EQ(call->n, 2);
  EXPECT_EQ(call->sampling[0].max_new_tokens, std::nullopt);
  EXPECT_EQ(call->sampling[1].seed, 7u);
  EXPECT_TRUE(call->list_answer);

  call = Read(Api::kCompletion,
              R"({"prompt": [[1], [2, 3]], "echo": true, "logprobs": 1, "max_tokens": 0})");
  ASSERT_TRUE(call.ok()) << call.status().message();
  EXPECT_EQ(call->logprobs[1].start, 0);
  EXPECT_EQ(call->sampling[1].max_new_tokens, 0);
}

TEST(ReadRequest, BoundsPromptsTimesN) {
  std::string prompts = "[[1]";
  for (int i = 1; i < 16; ++i) prompts += ",[1]";
  prompts += "]";
  for (const auto& [n, fits] : {std::pair(64, true), std::pair(65, false)}) {
    const auto completion =
        Read(Api::kCompletion, fmt::format(R"({{"prompt": {}, "n": {}}})", prompts, n));
    EXPECT_EQ(completion.ok(), fits);
    EXPECT_EQ(completion.status().param(), fits ? "" : "n");
    const auto native =
        Read(Api::kNative,
             fmt::format(R"({{"input_ids": {}, "sampling_params": {{"n": {}}}}})", prompts, n));
    EXPECT_EQ(native.status().param(), fits ? "" : "sampling_params.n");
  }
}

TEST(ReadRequest, TakesTheSmallerOfBothTokenLimits) {
  const auto call = Read(Api::kChat, Chat(R"("max_tokens": 9, "max_completion_tokens": 5)"));
  EXPECT_EQ(call->sampling[0].max_new_tokens, 5);
}

TEST(ReadRequest, HidesToolsWhenNoneMayBeCalled) {
  EXPECT_NE(Read(Api::kChat, Chat(R"("tools": [{}])"))->tools, nullptr);
  EXPECT_EQ(Read(Api::kChat, Chat(R"("tools": [{}], "tool_choice": "none")"))->tools, nullptr);
}

TEST(ReadRequest, IgnoresUnknownTopLevelKeys) {
  EXPECT_TRUE(Read(Api::kChat, Chat(R"("store": true, "metadata": {}, "surprise": [1])")).ok());
}

}  // namespace
}  // namespace sluice
