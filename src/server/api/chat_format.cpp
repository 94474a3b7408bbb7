#include "server/api/answer_format.h"
#include "server/api/logprobs.h"
#include "server/api/openai_common.h"
#include "server/api/sse.h"

namespace sluice {
namespace {

class ChatFormat final : public AnswerFormat {
 public:
  ChatFormat(const Call& call, const TextService* text)
      : AnswerFormat(call, text), role_sent_(call.generations.size(), false) {}

  bool streams_ids() const override { return false; }

  void AppendFrames(size_t i, const GenerateEvent& news, const GenerateResult& total, bool finished,
                    std::string& out) override {
    if (!role_sent_[i]) {
      role_sent_[i] = true;
      AppendFrame(i, "assistant", std::string_view(), nullptr, nullptr, total, out);
    }
    if (!news.text.empty() || !news.logprobs.empty())
      AppendFrame(i, {}, news.text, &news, nullptr, total, out);
    if (finished) AppendFrame(i, {}, std::nullopt, nullptr, &total.finish, total, out);
  }

  void AppendEnd(const std::vector<GenerateResult>& results, std::string& out) override {
    if (!call_.request.include_usage) return;
    AppendUsageFrame(call_, "chat.completion.chunk", results, out);
  }

  std::string Whole(const std::vector<GenerateResult>& results) override {
    JsonWriter json;
    json.BeginObject();
    WriteOpenAiHead(json, call_, "chat.completion");
    json.Key("choices").BeginArray();
    for (size_t i = 0; i < results.size(); ++i) WriteChoice(json, i, results[i]);
    json.EndArray().Key("usage");
    WriteUsage(json, call_, results);
    json.EndObject();
    return json.Take();
  }

 private:
  void WriteChoice(JsonWriter& json, size_t i, const GenerateResult& result) {
    json.BeginObject().Key("index").Uint(i).Key("message").BeginObject();
    json.Key("role").String("assistant").Key("content");
    result.text.empty() ? json.Null() : json.String(result.text);
    json.EndObject().Key("logprobs");
    WriteLogprobs(json, result.logprobs);
    json.Key("finish_reason").String(FinishName(result.finish)).Key("matched_stop");
    WriteMatchedStop(json, result.finish);
    if (call_.request.return_token_ids) WriteIds(json.Key("token_ids"), result.ids);
    json.EndObject();
  }

  void WriteLogprobs(JsonWriter& json, std::span<const PositionLogprobs> positions) {
    if (!call_.request.logprobs[0].enabled) {
      json.Null();
    } else {
      WriteChatLogprobs(json, text_, positions, call_.request.tokens_as_ids);
    }
  }

  /// One frame: a role, some content (with the log-probabilities of `news`) or the end.
  void AppendFrame(size_t i, std::string_view role, std::optional<std::string_view> content,
                   const GenerateEvent* news, const FinishReason* finish,
                   const GenerateResult& total, std::string& out) {
    JsonWriter json;
    json.BeginObject();
    WriteOpenAiHead(json, call_, "chat.completion.chunk");
    json.Key("choices").BeginArray().BeginObject().Key("index").Uint(i).Key("delta").BeginObject();
    if (!role.empty()) json.Key("role").String(role);
    if (content) json.Key("content").String(*content);
    json.EndObject().Key("logprobs");
    if (news) {
      WriteLogprobs(json, news->logprobs);
    } else {
      json.Null();
    }
    json.Key("finish_reason");
    finish ? json.String(FinishName(*finish)) : json.Null();
    json.Key("matched_stop");
    if (finish) {
      WriteMatchedStop(json, *finish);
    } else {
      json.Null();
    }
    if (news && call_.request.return_token_ids) WriteIds(json.Key("token_ids"), news->ids);
    json.EndObject().EndArray();
    if (call_.request.continuous_usage) WriteUsage(json.Key("usage"), call_, {total});
    json.EndObject();
    AppendSse(out, json.text());
  }

  std::vector<bool> role_sent_;
};

}  // namespace

std::unique_ptr<AnswerFormat> MakeChatFormat(const Call& call, const TextService* text) {
  return std::make_unique<ChatFormat>(call, text);
}

}  // namespace sluice
