// The routes over the fake engine: shapes of answers, streams and errors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>

#include "base/clock.h"
#include "server/testing/test_server.h"

namespace sluice {
namespace {

namespace json = boost::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// The objects of a stream, after checking every byte around them.
std::vector<json::value> Frames(const std::string& body) {
  std::vector<json::value> frames;
  size_t at = 0;
  bool done = false;
  while (at < body.size()) {
    EXPECT_FALSE(done) << "bytes after [DONE]";
    const size_t end = body.find("\n\n", at);
    if (end == std::string::npos || body.compare(at, 6, "data: ") != 0) {
      ADD_FAILURE() << "not a frame: " << body.substr(at, 100);
      break;
    }
    const std::string line = body.substr(at + 6, end - at - 6);
    EXPECT_EQ(line.find('\n'), std::string::npos);
    line == "[DONE]" ? void(done = true) : frames.push_back(json::parse(line));
    at = end + 2;
  }
  EXPECT_TRUE(done) << "no [DONE]";
  return frames;
}

std::string Str(const json::value& value) { return std::string(value.as_string()); }

TEST(Routes, ChatAnswersInOnePiece) {
  TestServer server;
  const SimpleResponse response = server.Post("/v1/chat/completions", R"({"messages":
      [{"role":"user","content":"hello"}], "max_tokens": 3, "n": 2, "seed": 9, "stop": "zzz"})");
  ASSERT_EQ(response.status, 200) << response.body;
  const json::value answer = json::parse(response.body);
  EXPECT_EQ(answer.at("object"), "chat.completion");
  EXPECT_THAT(Str(answer.at("id")), ::testing::StartsWith("chatcmpl-"));
  EXPECT_EQ(answer.at("model"), "org/fake");
  const json::array& choices = answer.at("choices").as_array();
  ASSERT_EQ(choices.size(), 2u);
  EXPECT_EQ(choices[1].at("index"), 1);
  EXPECT_EQ(choices[1].at("message"), json::parse(R"({"role":"assistant","content":"abc"})"));
  EXPECT_EQ(choices[0].at("finish_reason"), "length");
  EXPECT_TRUE(choices[0].at("logprobs").is_null());
  EXPECT_TRUE(choices[0].at("matched_stop").is_null());
  EXPECT_EQ(answer.at("usage"), json::parse(R"({"prompt_tokens":6,"completion_tokens":6,
      "total_tokens":12,"prompt_tokens_details":{"cached_tokens":0}})"));
  const auto seen = server.engine().Seen();
  EXPECT_EQ(seen[0].sampling.seed, 9u);
  EXPECT_EQ(seen[0].sampling.choice, 0u);
  EXPECT_EQ(seen[1].sampling.choice, 1u);
  EXPECT_EQ(seen[0].sampling.temperature, 0.6);  // generation_config.json
  EXPECT_THAT(seen[0].sampling.stop, ElementsAre("zzz"));
}

TEST(Routes, ChatStreamsRoleTextEndAndUsage) {
  TestServer server;
  const SimpleResponse response = server.Post("/v1/chat/completions", R"({"messages":
      [{"role":"user","content":"hello"}], "max_tokens": 4, "n": 2, "stream": true, "logprobs": true,
      "top_logprobs": 2, "stream_options": {"include_usage": true}})");
  ASSERT_EQ(response.status, 200);
  EXPECT_EQ(response.fields.at("content-type"), "text/event-stream");
  EXPECT_EQ(response.fields.at("cache-control"), "no-cache");
  EXPECT_EQ(response.fields.at("x-accel-buffering"), "no");
  std::string text[2];
  size_t tokens[2] = {}, roles[2] = {}, ends[2] = {};
  const auto frames = Frames(response.body);
  for (size_t f = 0; f < frames.size(); ++f) {
    EXPECT_EQ(frames[f].at("object"), "chat.completion.chunk");
    EXPECT_EQ(frames[f].at("id"), frames[0].at("id"));
    if (frames[f].at("choices").as_array().empty()) {
      EXPECT_EQ(f, frames.size() - 1);
      EXPECT_EQ(frames[f].at("usage").at("completion_tokens"), 8);
      continue;
    }
    const json::value& choice = frames[f].at("choices").at(0);
    const auto i = static_cast<size_t>(choice.at("index").as_int64());
    EXPECT_EQ(ends[i], 0u) << "a frame after the end";
    const json::object& delta = choice.at("delta").as_object();
    if (delta.contains("role")) {
      EXPECT_EQ(delta.at("content"), "");
      EXPECT_EQ(text[i], "");
      ++roles[i];
    }
    if (delta.contains("content")) text[i] += Str(delta.at("content"));
    if (!choice.at("logprobs").is_null()) {
      const json::array& content = choice.at("logprobs").at("content").as_array();
      tokens[i] += content.size();
      EXPECT_EQ(content[0].at("token"), delta.at("content"));
      EXPECT_EQ(content[0].at("bytes").as_array().size(), 1u);
      EXPECT_EQ(content[0].at("logprob"), -0.5);
      EXPECT_EQ(content[0].at("top_logprobs").as_array().size(), 2u);
    }
    if (!choice.at("finish_reason").is_null()) {
      EXPECT_TRUE(delta.empty());
      EXPECT_EQ(choice.at("finish_reason"), "length");
      ++ends[i];
    }
  }
  for (const size_t i : {0, 1}) {
    EXPECT_EQ(text[i], "abcd");
    EXPECT_EQ(tokens[i], 4u);
    EXPECT_EQ(roles[i], 1u);
    EXPECT_EQ(ends[i], 1u);
  }
}

TEST(Routes, NoFrameLacksChoicesUnlessUsageWasAskedFor) {
  TestServer server;
  for (const char* path : {"/v1/chat/completions", "/v1/completions"}) {
    const SimpleResponse response =
        server.Post(path, R"({"messages": [{"role":"user","content":"x"}],
        "prompt": "x", "max_tokens": 2, "stream": true})");
    for (const json::value& frame : Frames(response.body)) {
      EXPECT_EQ(frame.at("choices").as_array().size(), 1u);
      EXPECT_FALSE(frame.as_object().contains("usage"));
    }
  }
}

TEST(Routes, CompletionsEchoWithLogprobsCoverPromptAndAnswer) {
  TestServer server;
  const SimpleResponse response = server.Post("/v1/completions", R"({"prompt": [[104, 105], [120]],
      "echo": true, "logprobs": 1, "max_tokens": 1, "temperature": 0})");
  ASSERT_EQ(response.status, 200) << response.body;
  const json::value answer = json::parse(response.body);
  const json::value& first = answer.at("choices").at(0);
  EXPECT_EQ(first.at("text"), "hia");
  EXPECT_EQ(first.at("logprobs"), json::parse(R"({"tokens":["h","i","a"],
      "token_logprobs":[null,-0.5,-0.5], "top_logprobs":[null,{"i":-0.5},{"a":-0.5}],
      "text_offset":[0,1,2]})"));
  EXPECT_EQ(answer.at("choices").at(1).at("index"), 1);
  EXPECT_EQ(answer.at("choices").at(1).at("text"), "xa");
  EXPECT_EQ(answer.at("usage").at("prompt_tokens"), 3);
  EXPECT_TRUE(server.engine().Seen()[0].logprobs.raw);
}

TEST(Routes, CompletionsScoreAPromptWithoutGenerating) {
  TestServer server;
  const SimpleResponse response = server.Post("/v1/completions", R"({"prompt": "hi",
      "echo": true, "logprobs": 0, "max_tokens": 0})");
  const json::value choice = json::parse(response.body).at("choices").at(0);
  EXPECT_EQ(choice.at("text"), "hi");
  EXPECT_EQ(choice.at("logprobs").at("tokens").as_array().size(), 2u);
  EXPECT_TRUE(choice.at("logprobs").at("top_logprobs").is_null());
}

TEST(Routes, CompletionStreamsConcatenateToTheWholeAnswer) {
  TestServer server;
  const SimpleResponse response = server.Post("/v1/completions", R"({"prompt": "hi", "stream": true,
      "echo": true, "logprobs": 1, "max_tokens": 5, "stream_options": {"include_usage": true}})");
  std::string text;
  std::vector<int64_t> offsets;
  size_t ends = 0;
  for (const json::value& frame : Frames(response.body)) {
    if (frame.at("choices").as_array().empty()) continue;
    const json::value& choice = frame.at("choices").at(0);
    text += Str(choice.at("text"));
    for (const json::value& offset : choice.at("logprobs").at("text_offset").as_array())
      offsets.push_back(offset.as_int64());
    ends += !choice.at("finish_reason").is_null();
  }
  EXPECT_EQ(text, "hiabcde");
  EXPECT_THAT(offsets, ElementsAre(0, 1, 2, 3, 4, 5, 6));
  EXPECT_EQ(ends, 1u);
}

TEST(Routes, NativeAnswerHasMetaInfoAndTriples) {
  TestServer server;
  const SimpleResponse response = server.Post("/generate", R"({"input_ids": [104, 105, 33],
      "rid": "me", "return_logprob": true, "logprob_start_len": 1, "top_logprobs_num": 1,
      "token_ids_logprob": [7], "sampling_params": {"max_new_tokens": 2}})");
  ASSERT_EQ(response.status, 200) << response.body;
  const json::value answer = json::parse(response.body);
  EXPECT_EQ(answer.at("text"), "ab");
  EXPECT_EQ(answer.at("output_ids"), json::parse("[97,98]"));
  const json::object& meta = answer.at("meta_info").as_object();
  EXPECT_EQ(meta.at("id"), "me");
  EXPECT_EQ(meta.at("finish_reason"), json::parse(R"({"type":"length","length":2})"));
  EXPECT_EQ(meta.at("prompt_tokens"), 3);
  EXPECT_EQ(meta.at("completion_tokens"), 2);
  EXPECT_EQ(meta.at("cache_miss_count"), 0);
  EXPECT_TRUE(meta.at("e2e_latency").is_double());
  EXPECT_EQ(meta.at("input_token_logprobs"), json::parse(R"([[null,105,"i"],[-0.5,33,"!"]])"));
  EXPECT_EQ(meta.at("input_top_logprobs"), json::parse(R"([null,[[-0.5,33,"!"]]])"));
  EXPECT_EQ(meta.at("output_token_logprobs"), json::parse(R"([[-0.5,97,"a"],[-0.5,98,"b"]])"));
  EXPECT_EQ(meta.at("output_token_ids_logprobs").at(0), json::parse(R"([[-3.0,7,"\u0007"]])"));
  EXPECT_FALSE(server.engine().Seen()[0].logprobs.raw);
}

TEST(Routes, NativeStreamIsCumulativeOrIncremental) {
  for (const bool incremental : {false, true}) {
    TestServerOptions options;
    options.api.incremental_streaming = incremental;
    TestServer server(options);
    const auto frames = Frames(server
                                   .Post("/generate", R"({"text": "x", "stream": true,
        "sampling_params": {"max_new_tokens": 5}})")
                                   .body);
    std::string text;
    for (const json::value& frame : frames)
      text = incremental ? text + Str(frame.at("text")) : Str(frame.at("text"));
    EXPECT_EQ(text, "abcde");
    for (const json::value& frame : frames)
      EXPECT_EQ(frame.at("meta_info").at("finish_reason").is_null(), &frame != &frames.back());
    EXPECT_EQ(frames.back().at("meta_info").at("completion_tokens"), 5);
  }
}

TEST(Routes, NativeBatchesAnswerInOrderAndStreamsCarryAnIndex) {
  TestServer server;
  const std::string body = R"({"text": ["x", "y"], "rid": "r", "stream": STREAM,
      "sampling_params": {"max_new_tokens": 2, "n": 2}})";
  const auto with = [&](const char* stream) {
    std::string text = body;
    return text.replace(text.find("STREAM"), 6, stream);
  };
  const json::value whole = json::parse(server.Post("/generate", with("false")).body);
  ASSERT_EQ(whole.as_array().size(), 4u);
  for (size_t i = 0; i < 4; ++i)
    EXPECT_EQ(Str(whole.at(i).at("meta_info").at("id")), "r_" + std::to_string(i));
  std::map<int64_t, std::string> texts;
  for (const json::value& frame : Frames(server.Post("/generate", with("true")).body))
    texts[frame.at("index").as_int64()] = Str(frame.at("text"));
  EXPECT_EQ(texts.size(), 4u);
  for (const auto& [index, text] : texts) EXPECT_EQ(text, "ab") << index;
}

TEST(Routes, AStreamInterval) {
  TestServer server;
  const auto frames = Frames(server
                                 .Post("/generate", R"({"text": "x", "stream": true,
      "sampling_params": {"max_new_tokens": 9, "stream_interval": 4}})")
                                 .body);
  EXPECT_EQ(frames.size(), 3u);  // the first token, four more, the last four with the end
}

TEST(Routes, AnErrorBeforeTheFirstTokenHasARealStatus) {
  TestServer server;
  using Fault = FakeEngine::Fault;
  for (const Fault fault : {Fault::kAtSubmit, Fault::kFirstEvent})
    for (const bool stream : {false, true}) {
      server.engine().InjectFault(fault, Status(Code::kQueueFull, "The request queue is full."));
      const SimpleResponse response = server.Post(
          "/v1/chat/completions", fmt::format(R"({{"messages": [{{"role":"user","content":"x"}}],
          "n": 3, "stream": {}}})",
                                              stream));
      EXPECT_EQ(response.status, 429) << response.body;
      EXPECT_EQ(response.fields.at("retry-after"), "1");
      EXPECT_EQ(json::parse(response.body), json::parse(R"({"error":
          {"message":"The request queue is full.","type":"RateLimitError","param":null,
           "code":"queue_full"},
          "object":"error","message":"The request queue is full.","type":"RateLimitError",
          "param":null,"code":429})"));
    }
}

TEST(Routes, AnErrorInsideAStreamIsAFrameBeforeTheEnd) {
  TestServer server;
  server.engine().InjectFault(FakeEngine::Fault::kThirdToken, Status(Code::kNumericFault, "NaN"));
  const SimpleResponse response =
      server.Post("/v1/completions", R"({"prompt": "x", "stream": true})");
  EXPECT_EQ(response.status, 200);
  const auto frames = Frames(response.body);
  EXPECT_EQ(frames.back(), json::parse(R"({"error": {"message": "NaN",
      "type": "InternalServerError", "param": null, "code": "numeric_fault"}})"));
  EXPECT_THAT(server.Get("/metrics").body, HasSubstr("sglang:x_inband_errors_total{"));
}

TEST(Routes, AbortsByIdAndByBatch) {
  TestServerOptions options;
  options.step_seconds = 0.002;
  TestServer server(options);
  const auto run = [&](const char* rid) {
    return std::thread([&server, rid] {
      const auto response =
          server.Post("/generate", fmt::format(R"({{"text": ["x","y"], "rid": "{}",
          "sampling_params": {{"max_new_tokens": 4000}}}})",
                                               rid));
      EXPECT_EQ(json::parse(response.body).at(0).at("meta_info").at("finish_reason").at("type"),
                "abort");
    });
  };
  std::thread one = run("job1"), ten = run("job10");
  while (server.engine().live() < 4) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(server.Post("/flush_cache", "").status, 400);
  EXPECT_EQ(server.Post("/abort_request", R"({"rid": "job1"})").status, 200);
  one.join();
  EXPECT_EQ(server.engine().live(), 2u);  // job10 goes on: no prefix matching
  EXPECT_EQ(server.Post("/abort_request", R"({"abort_all": true})").status, 200);
  ten.join();
  EXPECT_EQ(server.Post("/abort_request", "{}").status, 400);
  EXPECT_EQ(server.Post("/flush_cache", "").status, 200);
}

TEST(Routes, RefusesADuplicateIdAndLeavesItsOwnerAlone) {
  TestServerOptions options;
  options.step_seconds = 0.002;
  TestServer server(options);
  std::thread first([&] {
    server.Post("/generate",
                R"({"text": "x", "rid": "a", "sampling_params": {"max_new_tokens": 4000}})");
  });
  while (server.engine().live() < 1) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const SimpleResponse second = server.Post("/generate", R"({"text": "x", "rid": "a"})");
  EXPECT_EQ(second.status, 400);
  EXPECT_EQ(json::parse(second.body).at("error").at("code"), "duplicate_request_id");
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // some steps
  EXPECT_EQ(server.engine().live(), 1u);
  server.Post("/abort_request", R"({"abort_all": true})");
  first.join();
}

TEST(Routes, ChecksLengthsWithBothCounts) {
  TestServerOptions options;
  options.step_seconds = 0;
  TestServer server(options);
  const std::string text(4096, 'x');
  SimpleResponse response = server.Post("/generate", fmt::format(R"({{"text": "{}"}})", text));
  EXPECT_EQ(response.status, 400);
  EXPECT_THAT(response.body, HasSubstr("The input (4096 tokens) is longer than the model's context "
                                       "length (4096 tokens)."));
  EXPECT_EQ(json::parse(response.body).at("error").at("code"), "context_length_exceeded");
  response = server.Post("/v1/completions", R"({"prompt": "abc", "max_tokens": 4093})");
  EXPECT_EQ(response.status, 400);
  EXPECT_THAT(
      response.body,
      HasSubstr(
          "Requested token count exceeds the model's maximum context length of 4096 tokens."));
  EXPECT_EQ(server.Post("/v1/completions", R"({"prompt": "abc", "max_tokens": 4092, "stop": "z"})")
                .status,
            200);
  response = server.Post("/generate", R"({"input_ids": [300]})");
  EXPECT_THAT(response.body, HasSubstr("token id 300 is outside the vocabulary [0, 300)"));
  EXPECT_EQ(server.Post("/generate", R"({"text": ""})").status, 400);
}

TEST(Routes, ServesIdsOnlyWithoutATokenizer) {
  TestServerOptions options;
  options.with_text = false;
  TestServer server(options);
  const json::value answer = json::parse(
      server.Post("/generate", R"({"input_ids": [5], "sampling_params": {"max_new_tokens": 2}})")
          .body);
  EXPECT_EQ(answer.at("output_ids"), json::parse("[97,98]"));
  EXPECT_FALSE(answer.as_object().contains("text"));
  for (const auto& [path, body] : std::map<std::string, std::string>{
           {"/generate", R"({"text": "x"})"},
           {"/generate", R"({"input_ids": [5], "sampling_params": {"stop": "x"}})"},
           {"/v1/chat/completions", R"({"messages": [{"role":"user","content":"x"}]})"},
           {"/tokenize", R"({"prompt": "x"})"}}) {
    const SimpleResponse response = server.Post(path, body);
    EXPECT_EQ(response.status, 400) << path;
    EXPECT_EQ(json::parse(response.body).at("error").at("code"), "unsupported_parameter") << path;
  }
}

TEST(Routes, ChatWithoutATemplateIsRefused) {
  TestServer server;
  server.text().has_template = false;
  const SimpleResponse response =
      server.Post("/v1/chat/completions", R"({"messages": [{"role":"user","content":"x"}]})");
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(json::parse(response.body).at("error").at("code"), "chat_template_missing");
}

TEST(Routes, ModelsAreNamesAndNeverFiles) {
  TestServerOptions options;
  options.api.strict_model_name = true;
  TestServer server(options);
  const json::value list = json::parse(server.Get("/v1/models").body);
  EXPECT_EQ(list.at("data").at(0).at("id"), "org/fake");
  EXPECT_EQ(list.at("data").at(0).at("max_model_len"), 4096);
  EXPECT_EQ(server.Get("/v1/models/org/fake").status, 200);
  EXPECT_EQ(server.Get("/v1/models/org%2Ffake").status, 200);
  for (const char* name : {"other", "..%2F..%2Fetc%2Fpasswd", "%zz"}) {
    const SimpleResponse response = server.Get(std::string("/v1/models/") + name);
    EXPECT_EQ(response.status, 404) << name;
    EXPECT_EQ(json::parse(response.body).at("error").at("code"), "model_not_found") << name;
  }
  const SimpleResponse strict =
      server.Post("/v1/completions", R"({"model": "/etc/passwd", "prompt": "x"})");
  EXPECT_EQ(strict.status, 404);
  EXPECT_EQ(json::parse(strict.body).at("error").at("code"), "model_not_found");
}

TEST(Routes, RefusesOtherMediaAndCodings) {
  TestServer server;
  SocketClient client(server.port());
  client.Send(
      "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"
      "Content-Length: 2\r\n\r\n{}");
  std::string bytes = client.ReadAll();
  const SimpleResponse response = TakeResponse(bytes);
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(json::parse(response.body).at("error").at("code"), "unsupported_media_type");
  EXPECT_EQ(server.Post("/generate", "{}", "Content-Encoding: gzip\r\n").status, 400);
  EXPECT_EQ(server.Post("/v1/completions", "").status, 400);
  EXPECT_EQ(server.Get("/no/such/route").status, 404);
}

TEST(Routes, HealthFollowsThePhase) {
  TestServerOptions options;
  options.phase = Phase::kWarming;
  TestServer server(options);
  const auto check = [&](int ready, int admits) {
    EXPECT_EQ(server.Get("/livez").status, 200);
    EXPECT_EQ(server.Get("/readyz").status, ready);
    EXPECT_EQ(server.Get("/health").status, ready);
    EXPECT_EQ(server.Get("/health_generate").status, ready);
    const SimpleResponse response = server.Post("/generate", R"({"text": "x"})");
    EXPECT_EQ(response.status, admits);
    if (admits == 503) {
      EXPECT_EQ(response.fields.at("retry-after"), "1");
    }
  };
  check(503, 503);
  server.app().SetPhase(Phase::kReady);
  check(200, 200);
  server.app().SetPhase(Phase::kDraining);
  check(503, 200);
  server.app().SetPhase(Phase::kStopping);
  check(503, 503);
}

TEST(Routes, ThreeNumericFaultsWithinAMinuteMakeTheServerUnready) {
  TestServer server;
  server.engine().SetThirdLastFault(MonotonicSeconds() - 30);
  for (const char* path : {"/health", "/readyz", "/health_generate"})
    EXPECT_EQ(server.Get(path).status, 503) << path;
  EXPECT_EQ(server.Get("/livez").status, 200);
  EXPECT_EQ(server.Post("/generate", R"({"text": "x"})").status, 200);
  server.engine().SetThirdLastFault(MonotonicSeconds() - 61);
  EXPECT_EQ(server.Get("/readyz").status, 200);
}

TEST(Routes, ForeignHostsAreRefusedWhereHostsAreChecked) {
  TestServerOptions options;
  options.check_host = true;
  options.allowed_hosts = {"gateway.example"};
  TestServer server(options);
  const auto status = [&](const std::string& host) {
    SocketClient client(server.port());
    client.Send("GET /version HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n");
    std::string bytes = client.ReadAll();
    const SimpleResponse response = TakeResponse(bytes);
    if (response.status == 403) {
      EXPECT_EQ(json::parse(response.body).at("error").at("code"), "host_not_allowed");
    }
    return response.status;
  };
  for (const char* host : {"localhost", "LOCALHOST:30000", "127.0.0.1:30000", "0.0.0.0", "[::1]:80",
                           "[::1]", "Gateway.Example:443"})
    EXPECT_EQ(status(host), 200) << host;
  for (const char* host : {"evil.example", "evil.example:30000", "127.0.0.1.evil.example",
                           "localhost.evil.example", "[evil]", "1.2.3"})
    EXPECT_EQ(status(host), 403) << host;
}

TEST(Routes, InfoRoutesAreCleanJson) {
  TestServer server;
  const json::value info = json::parse(server.Get("/get_server_info").body);
  EXPECT_EQ(info.at("model_path"), "fake");
  EXPECT_EQ(info.at("internal_states").as_array().size(), 1u);
  EXPECT_EQ(json::parse(server.Get("/get_model_info").body).at("is_generation"), true);
  EXPECT_EQ(json::parse(server.Get("/get_load").body).at(0).at("dp_rank"), 0);
  EXPECT_EQ(json::parse(server.Post("/tokenize", R"({"prompt": "hi"})").body),
            json::parse(R"({"tokens":[104,105],"count":2,"max_model_len":4096})"));
  const auto count = [&](const char* body) {
    return json::parse(server.Post("/tokenize", body).body).at("count").to_number<int>();
  };
  EXPECT_EQ(count(R"({"prompt": "+"})"), 2);
  EXPECT_EQ(count(R"({"prompt": "+", "add_special_tokens": false})"), 1);
  EXPECT_EQ(json::parse(server.Post("/detokenize", R"({"tokens": [104,105]})").body).at("text"),
            "hi");
  EXPECT_EQ(server.Post("/detokenize", R"({"tokens": [-1]})").status, 400);
}

TEST(Routes, MetricsCountRequestsRoutesAndTokens) {
  TestServer server;
  server.Post("/generate", R"({"text": "abc", "sampling_params": {"max_new_tokens": 5}})");
  server.Get("/nothing");
  const std::string text = server.Get("/metrics").body;
  EXPECT_THAT(text, HasSubstr("# TYPE sglang:time_to_first_token_seconds histogram"));
  for (const char* name : {"sglang:num_running_reqs{", "sglang:token_usage{",
                           "sglang:num_queue_reqs{", "sglang:inter_token_latency_seconds_count{"})
    EXPECT_THAT(text, HasSubstr(name));
  EXPECT_THAT(text, ::testing::ContainsRegex("generation_tokens_total.*is_streaming=.false.*} 5"));
  EXPECT_THAT(text,
              ::testing::ContainsRegex("x_http_requests_total.*code=.404.*route=.unknown.*} 1"));
}

}  // namespace
}  // namespace sluice
