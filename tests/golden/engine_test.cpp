// The public engine, with the bundled model and with a checkpoint that has no tokenizer. Answers
// are compared with each other, never with a text: the model may be trained anew.
#include "sluice/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <condition_variable>
#include <mutex>

#include "base/log.h"
#include "text/front.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

EngineOptions TinyOptions() {
  EngineOptions options;
  options.model_path = SLUICE_SOURCE_DIR "/models/sluice-tiny";
  options.show_progress = false;
  options.max_running_requests = 32;
  return options;
}

EngineOptions IdsOptions(const std::string& checkpoint = "ling25") {
  EngineOptions options = TinyOptions();
  options.model_path = SLUICE_SOURCE_DIR "/tests/golden/" + checkpoint;
  return options;
}

std::unique_ptr<Engine> MustOpen(const EngineOptions& options) {
  auto engine = Engine::Open(options);
  if (engine.ok()) return std::move(*engine);
  ADD_FAILURE() << engine.status().message();
  return nullptr;
}

/// Collects the events of one request.
class Stream {
 public:
  EventCallback Callback() {
    return [this](GenerateEvent&& event) {
      const std::lock_guard lock(mutex_);
      EXPECT_FALSE(end_.has_value()) << "an event after the last one";
      text_ += event.text;
      ids_.insert(ids_.end(), event.ids.begin(), event.ids.end());
      ++events_;
      if (event.finish) end_ = std::move(event);
      changed_.notify_all();
    };
  }
  void WaitForIds(size_t count) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60),
                                  [&] { return ids_.size() >= count || end_.has_value(); }));
  }
  const GenerateEvent& End() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::seconds(60), [&] { return end_.has_value(); }))
      ADD_FAILURE() << "no end";
    return *end_;
  }
  const std::string& text() const { return text_; }
  const std::vector<int32_t>& ids() const { return ids_; }
  int events() const { return events_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string text_;
  std::vector<int32_t> ids_;
  int events_ = 0;
  std::optional<GenerateEvent> end_;
};

class TinyEngine : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    log::SetLevel(log::Level::kWarning);
    engine_ = MustOpen(TinyOptions());
    ASSERT_NE(engine_, nullptr);
  }
  static void TearDownTestSuite() { engine_.reset(); }

  static GenerateRequest Request(const std::string& prompt = "What is 17 + 25?") {
    GenerateRequest request;
    request.input_ids = *engine_->text()->EncodePrompt(prompt);
    request.sampling.max_new_tokens = 24;
    request.sampling.ignore_eos = true;
    request.sampling.temperature = 0;
    return request;
  }
  static GenerateResult Run(GenerateRequest request) {
    auto result = engine_->Generate(std::move(request));
    EXPECT_TRUE(result.ok()) << result.status().message();
    return result.ok() ? std::move(*result) : GenerateResult{};
  }

  static inline std::unique_ptr<Engine> engine_;
};

TEST_F(TinyEngine, TellsWhatItIs) {
  const EngineInfo& info = engine_->info();
  EXPECT_EQ(info.architecture, "BailingMoeV2_5ForCausalLM");
  EXPECT_EQ(info.context_length, 8192);
  EXPECT_EQ(info.max_running_requests, 32);
  EXPECT_EQ(info.max_request_tokens, 8191);
  EXPECT_THAT(info.eos_ids, ElementsAre(2038, 2039));  // generation_config and config.json
  EXPECT_GT(info.weight_bytes, 0u);
  EXPECT_GT(info.kv_bytes_per_token, 0u);
  EXPECT_GT(info.state_bytes_per_request, 0u);
  EXPECT_EQ(info.max_total_tokens % 64, 0);
}

TEST_F(TinyEngine, EncodesPromptsAndConversations) {
  EXPECT_EQ(*engine_->Encode("<|role_end|>"), std::vector<int32_t>{2039});
  const auto chat = engine_->EncodeChat(R"([{"role": "user", "content": "<|role_end|>"}])");
  ASSERT_TRUE(chat.ok()) << chat.status().message();
  EXPECT_EQ(std::ranges::count(*chat, 2039), 2);  // the template's own, not the message's
  EXPECT_EQ(engine_->EncodeChat("[{]").status().code(), Code::kInvalidArgument);
  EXPECT_EQ(engine_->EncodeChat(R"([{"role": "x"}])").status().param(), "messages[0].role");
}

TEST_F(TinyEngine, StreamsWhatGenerateReturns) {
  const GenerateResult whole = Run(Request());
  EXPECT_EQ(whole.ids.size(), 24u);
  EXPECT_EQ(whole.finish.type, FinishReason::Type::kLength);
  EXPECT_EQ(whole.completion_tokens, 24);
  EXPECT_EQ(whole.text, engine_->text()->tokenizer().Decode(whole.ids, true));
  Stream stream;
  ASSERT_TRUE(engine_->Submit(Request(), stream.Callback()).ok());
  EXPECT_EQ(stream.End().completion_tokens, 24);
  EXPECT_EQ(stream.text(), whole.text);
  EXPECT_EQ(stream.ids(), whole.ids);
  EXPECT_GT(stream.events(), 1);
}

TEST_F(TinyEngine, ASeedGivesTheSameTokensWhateverElseIsRunning) {
  GenerateRequest request = Request();
  request.sampling.temperature = 1;
  request.sampling.seed = 5;
  const std::vector<int32_t> alone = Run(request).ids;
  GenerateRequest other_choice = request;
  other_choice.sampling.choice = 1;
  EXPECT_NE(Run(other_choice).ids, alone);
  std::vector<Stream> crowd(12);
  for (size_t i = 0; i < crowd.size(); ++i) {
    GenerateRequest neighbour = Request(std::string(5 * i + 1, 'x'));
    if (i % 3 == 0) neighbour = request;
    neighbour.id = "neighbour " + std::to_string(i);
    ASSERT_TRUE(engine_->Submit(std::move(neighbour), crowd[i].Callback()).ok());
  }
  for (size_t i = 0; i < crowd.size(); ++i) {
    crowd[i].End();
    if (i % 3 == 0) {
      EXPECT_EQ(crowd[i].ids(), alone);
    }
  }
  // Without a seed the engine's own stream goes on.
  request.sampling.seed.reset();
  EXPECT_NE(Run(request).ids, Run(request).ids);
}

TEST_F(TinyEngine, StopStringsEndTheAnswerAndItsWork) {
  const GenerateResult whole = Run(Request());
  ASSERT_GE(whole.text.size(), 8u);
  const size_t at = whole.text.size() / 2;
  size_t begin = at;  // a piece of the answer, from the start of a character on
  while ((whole.text[begin] & 0xC0) == 0x80) --begin;
  const std::string stop = whole.text.substr(begin, 4);
  GenerateRequest request = Request();
  request.sampling.stop = {stop};
  request.sampling.max_new_tokens = 2000;
  const GenerateResult cut = Run(request);
  EXPECT_EQ(cut.text, whole.text.substr(0, whole.text.find(stop)));
  EXPECT_EQ(cut.finish.type, FinishReason::Type::kStop);
  EXPECT_EQ(cut.finish.matched_string, stop);
  EXPECT_EQ(cut.completion_tokens, static_cast<int64_t>(cut.ids.size()));
  EXPECT_LE(cut.ids.size(), whole.ids.size());
  for (int i = 0; i < 1000 && engine_->stats().running_requests > 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(engine_->stats().running_requests, 0);
  EXPECT_EQ(engine_->stats().kv_tokens_used, 0);
}

TEST_F(TinyEngine, StopIdsAndMinimumLength) {
  const GenerateResult whole = Run(Request());
  GenerateRequest request = Request();
  request.sampling.ignore_eos = false;
  const int32_t stop = whole.ids[0];  // later ones may follow an end of text
  request.sampling.stop_token_ids = {stop};
  const GenerateResult stopped = Run(request);
  EXPECT_EQ(stopped.finish.matched_token, stop);
  EXPECT_EQ(stopped.ids.size(), 1u);
  EXPECT_EQ(stopped.ids.back(), stop);
  request.sampling.min_new_tokens = 10;
  const GenerateResult longer = Run(request);
  EXPECT_GE(longer.ids.size(), 10u);
  for (size_t i = 0; i < 10 && i < longer.ids.size(); ++i) EXPECT_NE(longer.ids[i], stop);
}

TEST_F(TinyEngine, NoNewTokensMeansThePromptOnly) {
  GenerateRequest request = Request();
  request.sampling.max_new_tokens = 0;
  request.logprobs = {.enabled = true, .prompt_start = 0};
  const GenerateResult result = Run(request);
  EXPECT_EQ(result.finish.type, FinishReason::Type::kLength);
  EXPECT_TRUE(result.ids.empty());
  EXPECT_EQ(result.prompt_logprobs.size(), request.input_ids.size());
}

TEST_F(TinyEngine, LogprobsAreIndexedAsTheApiSays) {
  GenerateRequest request = Request();
  const size_t length = request.input_ids.size();
  ASSERT_GT(length, 4u);
  request.logprobs = {.enabled = true, .prompt_start = 2, .top = 3, .token_ids = {1, 0}};
  const GenerateResult result = Run(request);
  ASSERT_EQ(result.prompt_logprobs.size(), length - 2);
  EXPECT_FALSE(result.prompt_logprobs[0].logprob.has_value());
  EXPECT_TRUE(result.prompt_logprobs[0].top.empty());
  for (size_t i = 1; i < result.prompt_logprobs.size(); ++i) {
    const PositionLogprobs& entry = result.prompt_logprobs[i];
    EXPECT_EQ(entry.id, request.input_ids[2 + i]);
    EXPECT_LE(*entry.logprob, entry.top[0].logprob);
    EXPECT_EQ(entry.top.size(), 3u);
    EXPECT_EQ(entry.asked[0].id, 1);
    EXPECT_EQ(entry.asked[1].id, 0);
  }
  ASSERT_EQ(result.logprobs.size(), result.ids.size());
  for (size_t i = 0; i < result.ids.size(); ++i) {
    EXPECT_EQ(result.logprobs[i].id, result.ids[i]);
    EXPECT_EQ(result.logprobs[i].top[0].id, result.ids[i]);  // greedy
    EXPECT_EQ(*result.logprobs[i].logprob, result.logprobs[i].top[0].logprob);
  }
  // The answer, given as part of the prompt, is scored in prompt form: the same up to rounding.
  GenerateRequest scored = Request();
  scored.input_ids.insert(scored.input_ids.end(), result.ids.begin(), result.ids.end());
  scored.sampling.max_new_tokens = 0;
  scored.logprobs = {.enabled = true, .prompt_start = static_cast<int64_t>(length) - 1};
  const GenerateResult again = Run(scored);
  ASSERT_EQ(again.prompt_logprobs.size(), result.ids.size() + 1);
  for (size_t i = 0; i < result.ids.size(); ++i)
    EXPECT_NEAR(*again.prompt_logprobs[i + 1].logprob, *result.logprobs[i].logprob, 0.25);
}

TEST_F(TinyEngine, RefusesWhatCannotBe) {
  const auto refuse = [&](auto change) {
    GenerateRequest request = Request();
    change(request);
    return engine_->Submit(std::move(request), [](GenerateEvent&&) { ADD_FAILURE(); }).status();
  };
  EXPECT_EQ(refuse([](auto& r) { r.input_ids.clear(); }).param(), "input_ids");
  EXPECT_THAT(refuse([](auto& r) { r.input_ids[0] = 2048; }).message(), HasSubstr("id 2048"));
  EXPECT_THAT(refuse([](auto& r) { r.input_ids[0] = -1; }).message(), HasSubstr("[0, 2048)"));
  Status status = refuse([](auto& r) { r.input_ids.assign(8192, 5); });
  EXPECT_EQ(status.code(), Code::kContextLength);
  EXPECT_THAT(status.message(), StartsWith("The input (8192 tokens) is longer than the model's "
                                           "context length (8192 tokens)."));
  status = refuse([](auto& r) {
    r.input_ids.assign(8000, 5);
    r.sampling.max_new_tokens = 192;
  });
  EXPECT_EQ(status.code(), Code::kContextLength);
  EXPECT_THAT(status.message(), StartsWith("Requested token count exceeds the model's maximum "
                                           "context length of 8192 tokens."));
  EXPECT_EQ(refuse([](auto& r) { r.sampling.max_new_tokens = INT64_MAX; }).code(),
            Code::kContextLength);
  EXPECT_EQ(refuse([](auto& r) { r.sampling.top_p = 0; }).param(), "top_p");
  EXPECT_EQ(refuse([](auto& r) { r.logprobs = {.enabled = true, .prompt_start = 999}; }).param(),
            "logprob_start_len");
}

TEST_F(TinyEngine, ThePromptAtTheLimitAndTheRestOfTheContext) {
  GenerateRequest request = Request();
  request.input_ids.assign(8191, 5);
  request.sampling.max_new_tokens = 0;
  EXPECT_EQ(Run(request).prompt_tokens, 8191);
  request.input_ids.assign(8180, 5);
  request.sampling.max_new_tokens.reset();
  EXPECT_EQ(Run(request).completion_tokens, 8191 - 8180 - 1);
}

TEST_F(TinyEngine, CancelsLiveRequestsById) {
  GenerateRequest request = Request();
  request.id = "mine";
  request.sampling.max_new_tokens = 5000;
  Stream stream;
  EXPECT_EQ(*engine_->Submit(request, stream.Callback()), "mine");
  EXPECT_EQ(engine_->Submit(request, [](GenerateEvent&&) {}).status().code(), Code::kDuplicateId);
  EXPECT_THAT(engine_->LiveRequests(), ElementsAre("mine"));
  EXPECT_FALSE(engine_->Cancel("yours"));
  stream.WaitForIds(3);
  EXPECT_TRUE(engine_->Cancel("mine", "enough"));
  EXPECT_EQ(stream.End().finish->type, FinishReason::Type::kAbort);
  EXPECT_EQ(stream.End().finish->error.message(), "enough");
  EXPECT_EQ(stream.End().completion_tokens, static_cast<int64_t>(stream.ids().size()));
  EXPECT_FALSE(engine_->Cancel("mine"));
  EXPECT_THAT(engine_->LiveRequests(), testing::IsEmpty());
  EXPECT_EQ(Run(request = Request()).ids.size(), 24u);  // and the id is free again
}

TEST(EngineOpen, ServesIdsWithoutATokenizer) {
  const auto engine = MustOpen(IdsOptions());
  ASSERT_NE(engine, nullptr);
  EXPECT_EQ(engine->text(), nullptr);
  EXPECT_EQ(engine->Encode("x").status().code(), Code::kUnsupported);
  EXPECT_EQ(engine->EncodeChat("[]").status().code(), Code::kUnsupported);
  GenerateRequest request{.input_ids = {5, 6, 7}};
  request.sampling.max_new_tokens = 4;
  request.sampling.ignore_eos = true;
  EXPECT_EQ(engine->Generate(request)->ids.size(), 4u);
  request.sampling.stop = {"x"};
  EXPECT_EQ(engine->Generate(request).status().param(), "stop");
}

// Models with both kinds of memory, and with pages only.
class EngineOfFamily : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(, EngineOfFamily, testing::Values("ling25", "ling20", "qwen3_moe"),
                         [](const auto& test) { return std::string(test.param); });

TEST_P(EngineOfFamily, RetractsAndAShortPoolChangeNoToken) {
  EngineOptions options = IdsOptions(GetParam());
  options.threads = 2;
  const auto roomy = MustOpen(options);
  options.max_total_tokens = 512;
  options.chunked_prefill_size = 64;
  options.test_retract_interval = 5;
  const auto tight = MustOpen(options);
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 10; ++i) {
    GenerateRequest request;
    for (int j = 0; j <= 11 * i; ++j) request.input_ids.push_back((7 * i + j) % 384);
    request.sampling.max_new_tokens = 40;
    request.sampling.seed = i;
    requests.push_back(request);
  }
  std::vector<Stream> streams(requests.size());
  for (size_t i = 0; i < requests.size(); ++i)
    ASSERT_TRUE(tight->Submit(requests[i], streams[i].Callback()).ok());
  for (size_t i = 0; i < requests.size(); ++i) {
    streams[i].End();
    EXPECT_EQ(streams[i].ids(), roomy->Generate(requests[i])->ids) << i;
  }
  EXPECT_GT(tight->stats().retracted_requests, 0);
  EXPECT_EQ(tight->stats().kv_tokens_used, 0);
}

TEST(EngineOpen, RefusesAFullQueueADrainingEngineAndTooLongPrompts) {
  EngineOptions options = IdsOptions();
  options.max_running_requests = 1;
  options.max_queued_requests = 1;
  options.max_total_tokens = 128;
  auto engine = MustOpen(options);
  Stream first, second;
  GenerateRequest request{.input_ids = {5, 6, 7}};
  request.sampling.max_new_tokens = 100;
  request.sampling.ignore_eos = true;
  request.input_ids.assign(129, 5);
  EXPECT_EQ(engine->Submit(request, [](GenerateEvent&&) {}).status().code(), Code::kContextLength);
  request.input_ids.assign(3, 5);
  ASSERT_TRUE(engine->Submit(request, first.Callback()).ok());
  ASSERT_TRUE(engine->Submit(request, second.Callback()).ok());
  const Status full = engine->Submit(request, [](GenerateEvent&&) {}).status();
  if (!full.ok()) {  // unless the first has ended already
    EXPECT_EQ(full.code(), Code::kQueueFull);
  }
  engine->Drain();
  EXPECT_EQ(engine->Submit(request, [](GenerateEvent&&) {}).status().code(), Code::kDraining);
  engine.reset();  // with requests under way: each hears its end
  first.End();
  second.End();
}

TEST(EngineOpen, AnAnswerThatOutgrowsThePoolAloneEndsByName) {
  EngineOptions options = IdsOptions();
  options.max_total_tokens = 64;
  const auto engine = MustOpen(options);
  GenerateRequest request{.input_ids = {5, 6, 7}};
  request.sampling.max_new_tokens = 100;
  request.sampling.ignore_eos = true;
  const Status status = engine->Generate(request).status();
  EXPECT_EQ(status.code(), Code::kOutOfMemory);
  EXPECT_THAT(status.message(), StartsWith("Out of memory in DP rank"));
  request.sampling.max_new_tokens.reset();  // the rest of what there is
  EXPECT_EQ(engine->Generate(request)->finish.type, FinishReason::Type::kLength);
}

TEST(EngineOpen, NamesTheFlagThatIsWrong) {
  const auto param = [](auto change) {
    EngineOptions options = IdsOptions();
    change(options);
    const auto engine = Engine::Open(options);
    EXPECT_FALSE(engine.ok());
    return engine.ok() ? std::string() : engine.status().param();
  };
  EXPECT_EQ(param([](auto& o) { o.context_length = 5000; }), "context-length");
  EXPECT_EQ(param([](auto& o) { o.context_length = -1; }), "context-length");
  EXPECT_EQ(param([](auto& o) { o.chunked_prefill_size = 0; }), "chunked-prefill-size");
  EXPECT_EQ(param([](auto& o) { o.max_prefill_tokens = 0; }), "max-prefill-tokens");
  EXPECT_EQ(param([](auto& o) { o.page_size = 0; }), "page-size");
  EXPECT_EQ(param([](auto& o) { o.threads = -1; }), "threads");
  EXPECT_EQ(param([](auto& o) { o.mem_fraction_static = 1.5; }), "mem-fraction-static");
  EXPECT_EQ(param([](auto& o) { o.cpu_isa = "sse"; }), "cpu-isa");
  EXPECT_NE(param([](auto& o) { o.load_format = "pickle"; }), "x");
  EngineOptions none;
  none.model_path = "no/such/model";
  EXPECT_EQ(Engine::Open(none).status().code(), Code::kNotFound);
}

TEST(EngineOpen, ALongerContextThanConfigJsonSaysMustBeAskedForTwice) {
  EngineOptions options = IdsOptions();
  options.context_length = 5000;
  EXPECT_EQ(Engine::Open(options).status().param(), "context-length");
  options.allow_longer_context = true;
  const auto engine = MustOpen(options);
  ASSERT_NE(engine, nullptr);
  EXPECT_EQ(engine->info().context_length, 5000);
  GenerateRequest request;
  request.input_ids.assign(4990, 5);
  request.sampling.max_new_tokens = 2;
  request.sampling.ignore_eos = true;
  EXPECT_EQ(engine->Generate(request)->ids.size(), 2u);
}

TEST(EngineOpen, RefusesATokenizerThatKnowsMoreIdsThanTheModel) {
  EngineOptions options = TinyOptions();
  options.load_format = "dummy";
  options.json_model_override_args = R"({"vocab_size": 1000, "eos_token_id": null,
                                         "pad_token_id": null, "bos_token_id": null})";
  const Status status = Engine::Open(options).status();
  EXPECT_EQ(status.code(), Code::kBadCheckpoint);
  EXPECT_THAT(status.message(), HasSubstr("ids up to 2047, the model's vocab_size is only 1000"));
}

TEST(EngineEnds, AConfigWithoutEosHasItsFamilysWhereTheVocabularyReachesIt) {
  EngineOptions options = IdsOptions();
  options.load_format = "dummy";
  options.json_model_override_args = R"({"vocab_size": 157184, "eos_token_id": null})";
  EXPECT_THAT(MustOpen(options)->info().eos_ids, ElementsAre(156892));
  options.json_model_override_args = R"({"eos_token_id": null})";
  EXPECT_THAT(MustOpen(options)->info().eos_ids, testing::IsEmpty());
}

TEST(EngineEnds, TheTokenizersOwnEndOfTextCounts) {
  EngineOptions options = IdsOptions();
  options.load_format = "dummy";
  options.json_model_override_args = R"({"vocab_size": 2048, "eos_token_id": 1})";
  options.tokenizer_path = SLUICE_SOURCE_DIR "/models/sluice-tiny";
  const auto engine = MustOpen(options);
  ASSERT_NE(engine, nullptr);
  EXPECT_EQ(engine->text()->eos_token(), "<|role_end|>");
  EXPECT_THAT(engine->info().eos_ids, ElementsAre(1, 2039));
}

TEST(EngineEnds, ARequestThatMasksEveryTokenEndsByName) {
  const auto engine = MustOpen(IdsOptions());
  ASSERT_NE(engine, nullptr);
  GenerateRequest request{.input_ids = {5, 6, 7}};
  request.sampling.min_new_tokens = 1;
  for (int32_t id = 0; id < engine->info().vocab_size; ++id)
    request.sampling.stop_token_ids.push_back(id);
  const Status status = engine->Generate(request).status();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_THAT(status.message(), StartsWith("no token is left to choose from at position 3"));
  request.sampling.min_new_tokens = 0;
  EXPECT_EQ(engine->Generate(request)->ids.size(), 1u);
}

TEST(EngineEnds, GrokStopsAtItsSeparatorToo) {
  EngineOptions options = TinyOptions();
  options.model_path = SLUICE_SOURCE_DIR "/tests/golden/grok2";
  options.load_format = "dummy";
  options.json_model_override_args = R"({"vocab_size": 512, "eos_token_id": 1})";
  options.tokenizer_path = SLUICE_SOURCE_DIR "/tests/golden/tok_json";
  const auto engine = Engine::Open(options);
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  const Tokenizer& tokenizer = (*engine)->text()->tokenizer();
  EXPECT_THAT((*engine)->info().eos_ids,
              testing::UnorderedElementsAre(1, *tokenizer.FindId("<|eos|>"),
                                            *tokenizer.FindId("<|separator|>")));
}

}  // namespace
}  // namespace sluice
