#include "server/api/read_sampling.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <charconv>
#include <cmath>

namespace sluice {
namespace {

namespace json = boost::json;

/// {"123": -100.0}: token ids as keys.
Status ReadLogitBias(const FieldReader& fields, SamplingParams& sampling) {
  const json::object* object = nullptr;
  RETURN_IF_ERROR(fields.Object("logit_bias", object));
  if (!object) return Status();
  const std::string name = fields.FullName("logit_bias");
  if (object->size() > kLogitBiasMax)
    return ParamError(Code::kInvalidArgument, name, "{} has {} entries, allowed are {}", name,
                      object->size(), kLogitBiasMax);
  sampling.logit_bias.clear();
  for (const auto& [key, value] : *object) {
    int32_t id = -1;
    const char* const end = key.data() + key.size();
    const auto [parsed_end, error] = std::from_chars(key.data(), end, id);
    if (error != std::errc() || parsed_end != end || id < 0)
      return ParamError(Code::kInvalidArgument, name, "{}: {} is not a token id", name,
                        Quoted({key.data(), key.size()}));
    const auto bias = AsNumber(value);
    if (!bias || !(std::abs(*bias) <= 100))
      return ParamError(Code::kInvalidArgument, name,
                        "{}: the bias of token {} must be in [-100, 100], found {}", name, id,
                        Describe(value));
    sampling.logit_bias.emplace_back(id, static_cast<float>(*bias));
  }
  return Status();
}

bool IsOff(const json::value& value) {
  if (value.is_bool()) return !value.get_bool();
  if (value.is_string()) return value.get_string().empty();
  if (value.is_array()) return value.get_array().empty();
  if (value.is_object()) return value.get_object().empty();
  return AsNumber(value) == 0.0;
}

}  // namespace

Status ReadCommonSampling(const FieldReader& fields, SamplingParams& sampling) {
  RETURN_IF_ERROR(fields.Number("temperature", sampling.temperature));
  RETURN_IF_ERROR(fields.Number("top_p", sampling.top_p));
  RETURN_IF_ERROR(fields.Int("top_k", sampling.top_k));
  RETURN_IF_ERROR(fields.Number("min_p", sampling.min_p));
  RETURN_IF_ERROR(fields.Number("frequency_penalty", sampling.frequency_penalty));
  RETURN_IF_ERROR(fields.Number("presence_penalty", sampling.presence_penalty));
  RETURN_IF_ERROR(fields.Number("repetition_penalty", sampling.repetition_penalty));
  RETURN_IF_ERROR(fields.Bool("ignore_eos", sampling.ignore_eos));
  RETURN_IF_ERROR(fields.Bool("skip_special_tokens", sampling.skip_special_tokens));
  RETURN_IF_ERROR(fields.Bool("no_stop_trim", sampling.no_stop_trim));
  bool between_special_tokens = true;  // byte-level pieces have their own blanks: no effect
  RETURN_IF_ERROR(fields.Bool("spaces_between_special_tokens", between_special_tokens));
  RETURN_IF_ERROR(fields.Strings("stop", sampling.stop, kStopsMax, kStopBytesMax));
  if (std::any_of(sampling.stop.begin(), sampling.stop.end(), [](auto& s) { return s.empty(); }))
    return ParamError(Code::kInvalidArgument, fields.FullName("stop"),
                      "{} must not hold empty strings", fields.FullName("stop"));
  RETURN_IF_ERROR(fields.Ids("stop_token_ids", sampling.stop_token_ids, kLogitBiasMax));
  return ReadLogitBias(fields, sampling);
}

Status ReadSeed(const FieldReader& fields, std::string_view name, SamplingParams& sampling) {
  std::optional<int64_t> seed;
  RETURN_IF_ERROR(fields.Int(name, seed, 0, std::numeric_limits<int64_t>::max()));
  if (seed) sampling.seed = static_cast<uint64_t>(*seed);
  return Status();
}

Status CheckSampling(const FieldReader& fields, const SamplingParams& sampling,
                     const ApiConfig& config) {
  Status status = ValidateSampling(sampling, config.vocab_size);
  if (status.ok() || status.param().empty()) return status;
  return Status(status.code(), status.message(), fields.FullName(status.param()));
}

Status RefuseUnsupported(const FieldReader& fields, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    const json::value* value = fields.Find(name);
    if (!value || IsOff(*value)) continue;
    const std::string full = fields.FullName(name);
    return ParamError(Code::kUnsupported, full, "{} is not supported by this server", full);
  }
  return Status();
}

Status ReadModel(const FieldReader& fields, const ApiConfig& config, std::string& model) {
  model = config.model_name;
  RETURN_IF_ERROR(fields.String("model", model, 1024));
  if (config.strict_model_name && model != config.model_name)
    return ParamError(Code::kNotFound, "model", "The model {} does not exist; this server has {}",
                      Quoted(model), Quoted(config.model_name));
  return Status();
}

Status ReadRid(const FieldReader& fields, std::vector<std::string>& rids) {
  RETURN_IF_ERROR(fields.Strings("rid", rids, kPromptsMax, kRidBytesMax));
  if (std::any_of(rids.begin(), rids.end(), [](auto& rid) { return rid.empty(); }))
    return ParamError(Code::kInvalidArgument, "rid", "rid must not be empty");
  return Status();
}

Status CheckAnswers(const CallRequest& call, std::string_view n_name) {
  const auto prompts = static_cast<int64_t>(call.prompts.size());
  if (prompts * call.n <= kAnswersMax) return Status();
  return ParamError(Code::kInvalidArgument, n_name,
                    "{} is {} for {} prompts: {} answers of one request, allowed are {}", n_name,
                    call.n, prompts, prompts * call.n, kAnswersMax);
}

Status ReadOpenAiCommon(const FieldReader& fields, const ApiConfig& config, CallRequest& call) {
  RETURN_IF_ERROR(ReadModel(fields, config, call.model));
  RETURN_IF_ERROR(ReadRid(fields, call.rids));
  RETURN_IF_ERROR(fields.Bool("stream", call.stream));
  const json::object* options = nullptr;
  RETURN_IF_ERROR(fields.Object("stream_options", options));
  if (options) {
    const FieldReader stream_fields(*options, "stream_options.");
    RETURN_IF_ERROR(stream_fields.Bool("include_usage", call.include_usage));
    RETURN_IF_ERROR(stream_fields.Bool("continuous_usage_stats", call.continuous_usage));
  }
  RETURN_IF_ERROR(fields.Int("n", call.n, 1, kChoicesMax));
  RETURN_IF_ERROR(fields.Bool("return_token_ids", call.return_token_ids));
  RETURN_IF_ERROR(fields.Bool("return_tokens_as_token_ids", call.tokens_as_ids));
  return RefuseUnsupported(
      fields, {"regex", "json_schema", "ebnf", "stop_regex", "lora_path", "session_params",
               "return_hidden_states", "return_routed_experts", "custom_logit_processor"});
}

}  // namespace sluice
