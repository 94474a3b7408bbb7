// POST /generate: SGLang's native request. Most fields are a scalar, or a list with one a prompt.
#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "server/api/read_request.h"
#include "server/api/read_sampling.h"

namespace sluice {
namespace {

namespace json = boost::json;

constexpr std::string_view kSamplingKeys[] = {"max_new_tokens",
                                              "stop",
                                              "stop_token_ids",
                                              "stop_regex",
                                              "temperature",
                                              "top_p",
                                              "top_k",
                                              "min_p",
                                              "frequency_penalty",
                                              "presence_penalty",
                                              "repetition_penalty",
                                              "min_new_tokens",
                                              "n",
                                              "json_schema",
                                              "regex",
                                              "ebnf",
                                              "structural_tag",
                                              "ignore_eos",
                                              "skip_special_tokens",
                                              "spaces_between_special_tokens",
                                              "no_stop_trim",
                                              "stream_interval",
                                              "logit_bias",
                                              "sampling_seed",
                                              "custom_params"};

Status ReadSamplingParams(const json::object& object, const ApiConfig& config,
                          SamplingParams& sampling, CallRequest& call) {
  const FieldReader fields(object, "sampling_params.");
  for (const auto& [key, value] : object) {
    const std::string_view name(key.data(), key.size());
    if (std::find(std::begin(kSamplingKeys), std::end(kSamplingKeys), name) ==
        std::end(kSamplingKeys))
      return ParamError(Code::kInvalidArgument, "sampling_params",
                        "sampling_params: unknown key {}", Quoted(name));
  }
  if (const json::value* max = object.if_contains("max_new_tokens")) {
    sampling.max_new_tokens.reset();  // null: the rest of the context
    const auto value = AsInteger(*max);
    if (!max->is_null() && value && *value < 0)
      return ParamError(Code::kInvalidArgument, fields.FullName("max_new_tokens"),
                        "max_new_tokens must be at least 0, found {}", *value);
    RETURN_IF_ERROR(fields.Int("max_new_tokens", sampling.max_new_tokens, 0,
                               std::numeric_limits<int32_t>::max()));
  }
  RETURN_IF_ERROR(fields.Int("min_new_tokens", sampling.min_new_tokens, 0,
                             std::numeric_limits<int32_t>::max()));
  RETURN_IF_ERROR(ReadCommonSampling(fields, sampling));
  RETURN_IF_ERROR(ReadSeed(fields, "sampling_seed", sampling));
  RETURN_IF_ERROR(fields.Int("stream_interval", call.stream_interval, 1, 1'000'000));
  const int grammars = fields.Has("json_schema") + fields.Has("regex") + fields.Has("ebnf");
  if (grammars > 1)
    return ParamError(Code::kInvalidArgument, "sampling_params",
                      "Only one of regex, json_schema, or ebnf can be set.");
  RETURN_IF_ERROR(
      RefuseUnsupported(fields, {"json_schema", "regex", "ebnf", "structural_tag", "stop_regex"}));
  return CheckSampling(fields, sampling, config);
}

/// text or input_ids; sets the batch size.
Status ReadPrompts(const FieldReader& fields, CallRequest& call) {
  const json::value* text = fields.Find("text");
  const json::value* ids = fields.Find("input_ids");
  if (!text == !ids)
    return ParamError(text ? Code::kInvalidArgument : Code::kMissingParameter, "text",
                      "exactly one of text and input_ids must be given");
  const json::value& source = text ? *text : *ids;
  const std::string_view name = text ? "text" : "input_ids";
  call.list_answer = source.is_array() && !source.get_array().empty() &&
                     (text || source.get_array()[0].is_array());
  if (text && !call.list_answer) {
    if (!text->is_string())
      return fields.WrongType(name, source, "a string or an array of strings");
    call.prompts.push_back({std::string(View(text->get_string())), {}});
    return Status();
  }
  if (!call.list_answer) {
    call.prompts.emplace_back();
    return fields.Ids(name, call.prompts[0].ids, kPromptIdsMax);
  }
  if (source.get_array().size() > kPromptsMax)
    return fields.WrongType(name, source, fmt::format("an array of at most {}", kPromptsMax));
  for (const json::value& item : source.get_array()) {
    PromptSource& prompt = call.prompts.emplace_back();
    if (text) {
      if (!item.is_string()) return fields.WrongType(name, item, "an array of strings");
      prompt.text = std::string(View(item.get_string()));
      continue;
    }
    if (!item.is_array()) return fields.WrongType(name, item, "an array of arrays of token ids");
    const json::object one{{"input_ids", item}};
    RETURN_IF_ERROR(FieldReader(one).Ids("input_ids", prompt.ids, kPromptIdsMax));
  }
  return Status();
}

/// The value of a field for prompt `i`: the scalar, or the i-th of a list (`is_list` says which
/// lists are meant: a list may be one prompt's value).
template <class IsList>
Status PickFor(const FieldReader& fields, std::string_view name, size_t prompt, size_t prompts,
               IsList is_list, const json::value*& picked) {
  picked = fields.Find(name);
  if (!picked || !picked->is_array() || !is_list(picked->get_array())) return Status();
  const json::array& list = picked->get_array();
  if (list.size() != prompts)
    return ParamError(Code::kInvalidArgument, name, "{} has {} entries for {} prompts", name,
                      list.size(), prompts);
  picked = list[prompt].is_null() ? nullptr : &list[prompt];
  return Status();
}

Status ReadLogprobs(const FieldReader& fields, size_t i, size_t prompts, LogprobRequest& out) {
  const auto any_list = [](const json::array&) { return true; };
  const auto list_of_lists = [](const json::array& a) {
    return !a.empty() && (a[0].is_array() || a[0].is_null());
  };
  json::object one;  // this prompt's values as scalars
  const json::value* value = nullptr;
  for (const std::string_view name : {"return_logprob", "logprob_start_len", "top_logprobs_num"}) {
    RETURN_IF_ERROR(PickFor(fields, name, i, prompts, any_list, value));
    if (value) one[json::string_view(name.data(), name.size())] = *value;
  }
  RETURN_IF_ERROR(PickFor(fields, "token_ids_logprob", i, prompts, list_of_lists, value));
  if (value) one["token_ids_logprob"] = *value;

  const FieldReader mine(one);
  RETURN_IF_ERROR(mine.Bool("return_logprob", out.enabled));
  RETURN_IF_ERROR(
      mine.Int("logprob_start_len", out.start, -1, std::numeric_limits<int32_t>::max()));
  int64_t top = 0;
  RETURN_IF_ERROR(mine.Int("top_logprobs_num", top, 0, kTopLogprobsMax));
  out.top = static_cast<int32_t>(top);
  return mine.Ids("token_ids_logprob", out.token_ids, kTokenIdsLogprobMax);
}

Status ReadSamplingList(const FieldReader& fields, const ApiConfig& config, CallRequest& call) {
  const size_t prompts = call.prompts.size();
  for (size_t i = 0; i < prompts; ++i) {
    const json::value* value = nullptr;
    RETURN_IF_ERROR(PickFor(
        fields, "sampling_params", i, prompts, [](const json::array&) { return true; }, value));
    SamplingParams& sampling = call.sampling.emplace_back();
    if (i > 0 && value == fields.Find("sampling_params")) {  // one object for all: read once
      sampling = call.sampling[0];
      continue;
    }
    json::object merged = config.preferred_sampling;
    if (value) {
      if (!value->is_object()) return fields.WrongType("sampling_params", *value, "an object");
      for (const auto& [key, its] : value->get_object()) merged[key] = its;
    }
    int64_t n = 1;
    RETURN_IF_ERROR(ReadSamplingParams(merged, config, sampling, call));
    RETURN_IF_ERROR(FieldReader(merged, "sampling_params.").Int("n", n, 1, kChoicesMax));
    if (i > 0 && n != call.n)
      return ParamError(Code::kInvalidArgument, "sampling_params",
                        "sampling_params: n must be the same for all prompts, found {} and {}",
                        call.n, n);
    call.n = n;
  }
  return Status();
}

}  // namespace

Result<CallRequest> ReadGenerateRequest(const json::value& document, const ApiConfig& config) {
  if (!document.is_object())
    return Error(Code::kInvalidArgument, "the request body must be a JSON object, found {}",
                 Describe(document));
  const FieldReader fields(document.get_object());
  CallRequest call;
  call.api = Api::kNative;
  call.model = config.model_name;
  RETURN_IF_ERROR(RefuseUnsupported(
      fields,
      {"input_embeds", "image_data", "video_data", "audio_data", "lora_path", "session_params",
       "return_hidden_states", "return_routed_experts", "custom_logit_processor"}));
  RETURN_IF_ERROR(ReadPrompts(fields, call));
  const size_t prompts = call.prompts.size();
  RETURN_IF_ERROR(ReadRid(fields, call.rids));
  if (call.rids.size() > 1 && call.rids.size() != prompts)
    return ParamError(Code::kInvalidArgument, "rid", "rid has {} entries for {} prompts",
                      call.rids.size(), prompts);
  RETURN_IF_ERROR(fields.Bool("stream", call.stream));
  RETURN_IF_ERROR(fields.Bool("return_text_in_logprobs", call.return_text_in_logprobs));
  RETURN_IF_ERROR(fields.Bool("return_output_logprob_only", call.output_logprobs_only));
  RETURN_IF_ERROR(ReadSamplingList(fields, config, call));
  RETURN_IF_ERROR(CheckAnswers(call, "sampling_params.n"));
  for (size_t i = 0; i < prompts; ++i)
    RETURN_IF_ERROR(ReadLogprobs(fields, i, prompts, call.logprobs.emplace_back()));
  call.list_answer = call.list_answer || call.n > 1;
  return call;
}

}  // namespace sluice
