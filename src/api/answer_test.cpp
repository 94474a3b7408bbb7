#include "api/answer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace sluice {
namespace {

class AnswerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto tokenizer = Tokenizer::Load(SLUICE_SOURCE_DIR "/models/sluice-tiny/tokenizer.json");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    tokenizer_ = tokenizer->release();
  }
  static void TearDownTestSuite() { delete tokenizer_; }

  static Answer Make(const SamplingParams& sampling, const Tokenizer* tokenizer = tokenizer_) {
    GenerateRequest request;
    request.input_ids = {1, 2, 3};
    request.sampling = sampling;
    return Answer("id", request, tokenizer,
                  *StopMatcher::Create(sampling.stop, sampling.no_stop_trim), nullptr, 10);
  }

  static CoreEvent Token(int32_t id) {
    CoreEvent event;
    event.token = id;
    event.admitted_seconds = 11;
    return event;
  }
  static CoreEvent End(int32_t id, CoreFinish finish) {
    CoreEvent event = Token(id);
    event.finish = std::move(finish);
    return event;
  }

  struct Whole {
    std::string text;
    std::vector<int32_t> ids;
    std::optional<FinishReason> finish;
    int64_t completion_tokens = 0;
  };
  /// Feeds ids, the last one with a length finish, until the answer has ended.
  static Whole Feed(Answer& answer, const std::vector<int32_t>& ids) {
    Whole whole;
    for (size_t i = 0; i < ids.size() && !answer.ended(); ++i) {
      GenerateEvent out = answer.Absorb(
          i + 1 == ids.size() ? End(ids[i], {.type = CoreFinish::Type::kLength}) : Token(ids[i]),
          12);
      EXPECT_EQ(out.ids.size(), 1u);
      whole.text += out.text;
      whole.ids.insert(whole.ids.end(), out.ids.begin(), out.ids.end());
      whole.completion_tokens = out.completion_tokens;
      if (out.finish) whole.finish = out.finish;
    }
    return whole;
  }

  /// Ids of `text` when it is cut at random places before encoding.
  static std::vector<int32_t> RandomIds(SplitMix64& random, std::string_view text) {
    std::vector<int32_t> ids;
    while (!text.empty()) {
      const size_t bytes = std::min<size_t>(1 + random.Below(6), text.size());
      const auto piece = tokenizer_->Encode(text.substr(0, bytes));
      ids.insert(ids.end(), piece.begin(), piece.end());
      text.remove_prefix(bytes);
    }
    return ids;
  }

  static inline const Tokenizer* tokenizer_ = nullptr;
};

TEST_F(AnswerTest, StopsExactlyWhereTheStringIsCompleteAtEverySplit) {
  const std::string text = "the answer is forty-two, END of it";
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SplitMix64 random(seed);
    std::vector<int32_t> ids = RandomIds(random, text);
    Answer answer = Make({.stop = {"never", "END", "EN"}});
    const Whole whole = Feed(answer, ids);
    EXPECT_EQ(whole.text, "the answer is forty-two, ") << "seed " << seed;
    ASSERT_TRUE(whole.finish.has_value());
    EXPECT_EQ(whole.finish->type, FinishReason::Type::kStop);
    EXPECT_EQ(whole.finish->matched_string, "EN");
    EXPECT_EQ(static_cast<size_t>(whole.completion_tokens), whole.ids.size());
    // The last id counted is the one that completed the match.
    const auto decoded = tokenizer_->Decode(whole.ids, true);
    EXPECT_NE(decoded.find("EN"), std::string::npos);
    std::vector<int32_t> before(whole.ids.begin(), whole.ids.end() - 1);
    EXPECT_EQ(tokenizer_->Decode(before, true).find("EN"), std::string::npos);
  }
}

TEST_F(AnswerTest, HoldsBackWhatMayBecomeAStopStringAndShowsItAtTheEnd) {
  Answer answer = Make({.stop = {"ENDING"}});
  const std::vector<int32_t> ids = tokenizer_->Encode("so END");
  std::string early;
  for (const int32_t id : ids) early += answer.Absorb(Token(id), 12).text;
  EXPECT_EQ(early, "so ");
  CoreEvent end;
  end.admitted_seconds = 11;
  end.finish =
      CoreFinish{.type = CoreFinish::Type::kAbort, .error = Status(Code::kCancelled, "why")};
  const GenerateEvent last = answer.Absorb(std::move(end), 13);
  EXPECT_EQ(last.text, "END");
  EXPECT_EQ(last.finish->error.message(), "why");
  EXPECT_EQ(last.prompt_tokens, 3);
  EXPECT_EQ(last.queue_seconds, 1);
  EXPECT_EQ(last.elapsed_seconds, 3);
}

TEST_F(AnswerTest, KeepsTheStopStringIfAsked) {
  Answer answer = Make({.stop = {"END"}, .no_stop_trim = true});
  EXPECT_EQ(Feed(answer, tokenizer_->Encode("it is the END of it")).text, "it is the END");
}

TEST_F(AnswerTest, AStopTokenIsCountedButNoText) {
  const std::vector<int32_t> ids = tokenizer_->Encode("yes");
  Answer answer = Make({});
  for (const int32_t id : ids) answer.Absorb(Token(id), 12);
  const int32_t stop = tokenizer_->Encode("!")[0];
  const GenerateEvent out =
      answer.Absorb(End(stop, {.type = CoreFinish::Type::kStop, .matched_token = stop}), 12);
  EXPECT_EQ(out.text, "");
  EXPECT_THAT(out.ids, testing::ElementsAre(stop));
  EXPECT_EQ(out.finish->matched_token, stop);
  EXPECT_EQ(out.completion_tokens, static_cast<int64_t>(ids.size()) + 1);
}

TEST_F(AnswerTest, AnIncompleteCharacterEndsAsAReplacement) {
  const std::string character = "\xF0\x9F\x98\x80";
  Answer answer = Make({});
  std::vector<int32_t> ids;
  for (const char byte : character.substr(0, 3))  // ids of single bytes
    for (int32_t id = 0; id < tokenizer_->id_end(); ++id)
      if (tokenizer_->TokenBytes(id) == std::string_view(&byte, 1)) {
        ids.push_back(id);
        break;
      }
  ASSERT_EQ(ids.size(), 3u);
  EXPECT_EQ(answer.Absorb(Token(ids[0]), 12).text, "");
  EXPECT_EQ(answer.Absorb(Token(ids[1]), 12).text, "");
  EXPECT_EQ(answer.Absorb(End(ids[2], {.type = CoreFinish::Type::kLength}), 12).text,
            "\xEF\xBF\xBD");
}

TEST_F(AnswerTest, WithoutATokenizerThereAreIdsOnly) {
  Answer answer = Make({}, nullptr);
  const Whole whole = Feed(answer, {5, 6, 7});
  EXPECT_EQ(whole.text, "");
  EXPECT_THAT(whole.ids, testing::ElementsAre(5, 6, 7));
  EXPECT_EQ(whole.finish->type, FinishReason::Type::kLength);
}

TEST_F(AnswerTest, ACancelInTheQueueSaysSo) {
  Answer answer = Make({});
  CoreEvent end;
  end.finish = CoreFinish{.type = CoreFinish::Type::kAbort, .error = Status(Code::kCancelled, "x")};
  EXPECT_EQ(answer.Absorb(std::move(end), 12).finish->error.message(), "Abort before prefill");
}

}  // namespace
}  // namespace sluice
