#include "server/api/answer_format.h"
#include "server/api/api_error.h"
#include "server/api/logprobs.h"
#include "server/api/openai_common.h"
#include "server/api/sse.h"

namespace sluice {
namespace {

class NativeFormat final : public AnswerFormat {
 public:
  NativeFormat(const Call& call, const TextService* text, bool incremental)
      : AnswerFormat(call, text), incremental_(incremental) {}

  bool streams_ids() const override { return true; }

  void AppendFrames(size_t i, const GenerateEvent& news, const GenerateResult& total, bool finished,
                    std::string& out) override {
    JsonWriter json;
    if (incremental_) {
      GenerateResult part = total;
      part.ids = news.ids;
      part.text = news.text;
      part.logprobs = news.logprobs;
      part.prompt_logprobs = news.prompt_logprobs;
      WriteAnswer(json, i, part, finished);
    } else {
      WriteAnswer(json, i, total, finished);
    }
    AppendSse(out, json.text());
  }

  void AppendEnd(const std::vector<GenerateResult>&, std::string&) override {}

  std::string Whole(const std::vector<GenerateResult>& results) override {
    JsonWriter json;
    if (!call_.request.list_answer) {
      WriteAnswer(json, 0, results[0], true);
      return json.Take();
    }
    json.BeginArray();
    for (size_t i = 0; i < results.size(); ++i) WriteAnswer(json, i, results[i], true);
    json.EndArray();
    return json.Take();
  }

 private:
  void WriteAnswer(JsonWriter& json, size_t i, const GenerateResult& result, bool finished) {
    json.BeginObject();
    if (text_) json.Key("text").String(result.text);
    WriteIds(json.Key("output_ids"), result.ids);
    json.Key("meta_info").BeginObject();
    json.Key("id").String(call_.generations[i].id).Key("finish_reason");
    if (finished) {
      WriteFinish(json, i, result);
    } else {
      json.Null();
    }
    json.Key("prompt_tokens").Uint(call_.PromptOf(i).ids.size());
    json.Key("completion_tokens").Int(result.completion_tokens);
    json.Key("cached_tokens").Int(result.cached_tokens);
    json.Key("cache_miss_count").Int(0).Key("weight_version").String("default");
    if (call_.request.logprobs[call_.PromptIndexOf(i)].enabled) WriteLogprobs(json, i, result);
    if (finished) json.Key("e2e_latency").Number(result.elapsed_seconds);
    json.EndObject();
    if (call_.request.stream && call_.request.list_answer) json.Key("index").Uint(i);
    json.EndObject();
  }

  void WriteFinish(JsonWriter& json, size_t i, const GenerateResult& result) {
    const FinishReason& finish = result.finish;
    json.BeginObject().Key("type").String(FinishName(finish));
    switch (finish.type) {
      case FinishReason::Type::kStop: WriteMatchedStop(json.Key("matched"), finish); break;
      case FinishReason::Type::kLength:
        json.Key("length").Int(
            call_.generations[i].sampling.max_new_tokens.value_or(result.completion_tokens));
        break;
      case FinishReason::Type::kAbort: {
        const ApiError error = ToApiError(finish.error);
        json.Key("message").String(error.message);
        json.Key("status_code");
        finish.error.code() == Code::kCancelled ? json.Null() : json.Int(error.http);
        json.Key("err_type");
        finish.error.code() == Code::kCancelled ? json.Null() : json.String(error.type);
      }
    }
    json.EndObject();
  }

  void WriteLogprobs(JsonWriter& json, size_t i, const GenerateResult& result) {
    const LogprobRequest& asked = call_.request.logprobs[call_.PromptIndexOf(i)];
    const TextService* text = call_.request.return_text_in_logprobs ? text_ : nullptr;
    if (!call_.request.output_logprobs_only) {
      // Without a start only the last prompt token is named; it has no predecessor in the report.
      std::vector<PositionLogprobs> input = result.prompt_logprobs;
      if (asked.start < 0) {
        input.assign(1, {});
        input[0].id = call_.PromptOf(i).ids.back();
      }
      WriteNativeLogprobs(json.Key("input_token_logprobs"), text, input);
      WriteExtras(json, "input", asked, text, input);
    }
    WriteNativeLogprobs(json.Key("output_token_logprobs"), text, result.logprobs);
    WriteExtras(json, "output", asked, text, result.logprobs);
  }

  void WriteExtras(JsonWriter& json, const std::string& side, const LogprobRequest& asked,
                   const TextService* text, std::span<const PositionLogprobs> positions) {
    if (asked.top > 0)
      WriteNativeLists(json.Key(side + "_top_logprobs"), text, positions, &PositionLogprobs::top);
    if (!asked.token_ids.empty())
      WriteNativeLists(json.Key(side + "_token_ids_logprobs"), text, positions,
                       &PositionLogprobs::asked);
  }

  const bool incremental_;
};

}  // namespace

std::unique_ptr<AnswerFormat> MakeNativeFormat(const Call& call, const TextService* text,
                                               bool incremental) {
  return std::make_unique<NativeFormat>(call, text, incremental);
}

}  // namespace sluice
