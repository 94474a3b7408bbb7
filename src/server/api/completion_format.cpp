#include "server/api/answer_format.h"
#include "server/api/logprobs.h"
#include "server/api/openai_common.h"
#include "server/api/sse.h"
#include "server/json/utf8.h"

namespace sluice {
namespace {

class CompletionFormat final : public AnswerFormat {
 public:
  CompletionFormat(const Call& call, const TextService* text)
      : AnswerFormat(call, text), streams_(call.generations.size()) {}

  bool streams_ids() const override { return false; }

  void AppendFrames(size_t i, const GenerateEvent& news, const GenerateResult& total, bool finished,
                    std::string& out) override {
    StreamState& stream = streams_[i];
    JsonWriter json;
    json.BeginObject();
    WriteOpenAiHead(json, call_, "text_completion");
    json.Key("choices").BeginArray();
    const bool first = !stream.started;
    stream.started = true;
    GenerateResult part;
    part.ids = news.ids;
    part.text = news.text;
    part.logprobs = news.logprobs;
    if (first) part.prompt_logprobs = total.prompt_logprobs;
    part.finish = total.finish;
    WriteChoice(json, i, part, first, finished, stream.offset);
    json.EndArray();
    if (call_.request.continuous_usage) WriteUsage(json.Key("usage"), call_, {total});
    json.EndObject();
    AppendSse(out, json.text());
  }

  void AppendEnd(const std::vector<GenerateResult>& results, std::string& out) override {
    if (!call_.request.include_usage) return;
    AppendUsageFrame(call_, "text_completion", results, out);
  }

  std::string Whole(const std::vector<GenerateResult>& results) override {
    JsonWriter json;
    json.BeginObject();
    WriteOpenAiHead(json, call_, "text_completion");
    json.Key("choices").BeginArray();
    for (size_t i = 0; i < results.size(); ++i) {
      size_t offset = 0;
      WriteChoice(json, i, results[i], true, true, offset);
    }
    json.EndArray().Key("usage");
    WriteUsage(json, call_, results);
    json.EndObject();
    return json.Take();
  }

 private:
  struct StreamState {
    bool started = false;
    size_t offset = 0;  // code points before the next token
  };

  /// `first`: the part begins the answer, so an echo goes before it.
  void WriteChoice(JsonWriter& json, size_t i, const GenerateResult& part, bool first,
                   bool finished, size_t& offset) {
    const bool echo = call_.request.echo && first;
    json.BeginObject().Key("index").Uint(i).Key("text");
    json.String(echo ? call_.PromptOf(i).text + part.text : part.text);
    json.Key("logprobs");
    const LogprobRequest& asked = call_.request.logprobs[call_.PromptIndexOf(i)];
    if (!asked.enabled) {
      json.Null();
    } else {
      std::vector<PositionLogprobs> positions;
      if (echo) positions = part.prompt_logprobs;
      positions.insert(positions.end(), part.logprobs.begin(), part.logprobs.end());
      WriteCompletionLogprobs(json, text_, positions, asked.top > 0, call_.request.tokens_as_ids,
                              call_.generations[i].sampling.skip_special_tokens, offset);
    }
    json.Key("finish_reason");
    finished ? json.String(FinishName(part.finish)) : json.Null();
    json.Key("matched_stop");
    if (finished) {
      WriteMatchedStop(json, part.finish);
    } else {
      json.Null();
    }
    if (call_.request.return_token_ids) {
      WriteIds(json.Key("token_ids"), part.ids);
      if (first) WriteIds(json.Key("prompt_token_ids"), call_.PromptOf(i).ids);
    }
    json.EndObject();
  }

  std::vector<StreamState> streams_;
};

}  // namespace

std::unique_ptr<AnswerFormat> MakeCompletionFormat(const Call& call, const TextService* text) {
  return std::make_unique<CompletionFormat>(call, text);
}

}  // namespace sluice
