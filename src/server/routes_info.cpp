// Routes that describe the server. They only read snapshots and run on the I/O thread.
#include "server/api/api_error.h"
#include "server/api/openai_common.h"
#include "server/app.h"
#include "server/json/json_writer.h"
#include "server/version.h"

namespace sluice {
namespace {

/// "%2F" to "/"; bytes that are no escapes stay.
std::string PercentDecode(std::string_view text) {
  const auto hex = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    const char lower = static_cast<char>(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0) {
      out += static_cast<char>(hex(text[i + 1]) * 16 + hex(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

void App::WriteModelCard(JsonWriter& json) const {
  json.BeginObject().Key("id").String(config_.model_name).Key("object").String("model");
  json.Key("created").Int(created_).Key("owned_by").String("sglang");
  json.Key("root").String(config_.model_name).Key("max_model_len").Int(config_.context_length);
  json.EndObject();
}

void App::Models(const ExchangePtr& exchange) {
  JsonWriter json;
  json.BeginObject().Key("object").String("list").Key("data").BeginArray();
  WriteModelCard(json);
  json.EndArray().EndObject();
  exchange->Respond({.body = json.Take()});
}

void App::Model(const ExchangePtr& exchange) {
  const std::string_view path = exchange->request().path;
  const std::string name = PercentDecode(path.substr(std::string_view("/v1/models/").size()));
  if (name != config_.model_name) {
    ApiError error = HttpError(404, fmt::format("The model {} does not exist", Quoted(name)));
    error.type = "invalid_request_error";
    error.code = "model_not_found";
    error.param = "model";
    return exchange->Respond(ErrorResponse(error));
  }
  JsonWriter json;
  WriteModelCard(json);
  exchange->Respond({.body = json.Take()});
}

void App::ModelInfo(const ExchangePtr& exchange) {
  const EngineInfo& info = engine_->info();
  JsonWriter json;
  json.BeginObject().Key("model_path").String(info.model_path);
  json.Key("tokenizer_path").String(info.tokenizer_path).Key("is_generation").Bool(true);
  json.Key("preferred_sampling_params");
  config_.preferred_sampling.empty() ? json.Null() : json.Value(config_.preferred_sampling);
  json.Key("weight_version").String("default").Key("has_image_understanding").Bool(false);
  json.Key("has_audio_understanding").Bool(false).Key("model_type").String(info.model_type);
  json.Key("architectures").BeginArray().String(info.architecture).EndArray();
  json.EndObject();
  exchange->Respond({.body = json.Take()});
}

void App::ServerInfo(const ExchangePtr& exchange) {
  const EngineInfo& info = engine_->info();
  const EngineStats stats = engine_->stats();
  const int64_t max_request = info.max_request_tokens;
  JsonWriter json;
  json.BeginObject();
  json.Key("status").String(phase_ == Phase::kReady ? "ready" : "not_ready");
  json.Key("version").String(kVersion).Key("server_args").Raw(options_.flags_json);
  // The flags also lie at the top level, where SGLang's clients look for them.
  const std::string_view flags = options_.flags_json;
  if (flags.size() > 2) json.Raw(flags.substr(1, flags.size() - 2));
  json.Key("max_total_num_tokens").Int(info.max_total_tokens);
  json.Key("max_req_input_len").Int(max_request > 5 ? max_request - 5 : 0);
  json.Key("max_running_requests_effective").Int(info.max_running_requests);
  json.Key("internal_states").BeginArray().BeginObject();
  json.Key("last_gen_throughput").Number(stats.generation_tokens_per_second);
  json.Key("memory_usage").BeginObject();
  json.Key("kvcache").Number(static_cast<double>(info.kv_bytes) / (1 << 30));
  json.Key("weight").Number(static_cast<double>(info.weight_bytes) / (1 << 30));
  json.Key("token_capacity").Int(info.max_total_tokens).EndObject();
  json.Key("engine_paused").Bool(false).Key("waiting_queue_size").Int(stats.queued_requests);
  json.Key("running_batch_size").Int(stats.running_requests);
  json.Key("available_kv_tokens").Int(stats.kv_tokens_total - stats.kv_tokens_used);
  json.Key("num_generated_tokens").Int(stats.generated_tokens);
  json.Key("forward_ct_decode").Int(stats.steps - stats.prefill_steps);
  json.Key("avg_spec_accept_length").Null();
  json.Key("recurrent").BeginObject().Key("slots_total").Int(stats.state_slots_total);
  json.Key("slots_active").Int(stats.state_slots_used).Key("slots_cached").Int(0);
  json.Key("slots_free").Int(stats.state_slots_total - stats.state_slots_used);
  json.Key("bytes_per_slot").Uint(info.state_bytes_per_request).EndObject();
  json.EndObject().EndArray().EndObject();
  exchange->Respond({.body = json.Take()});
}

void App::Version(const ExchangePtr& exchange) {
  JsonWriter json;
  json.BeginObject().Key("version").String(kVersion).EndObject();
  exchange->Respond({.body = json.Take()});
}

void App::TokenizerInfo(const ExchangePtr& exchange) {
  if (!text_)
    return exchange->Respond(ErrorResponse(ToApiError(
        Error(Code::kUnsupported, "this server has no tokenizer (--skip-tokenizer-init)"))));
  JsonWriter json;
  json.BeginObject();
  for (const std::string_view name : {"bos_token", "eos_token", "pad_token", "chat_template"}) {
    const std::string value = text_->Property(name);
    json.Key(name);
    value.empty() ? json.Null() : json.String(value);
  }
  json.Key("vocab_size").Int(config_.vocab_size).EndObject();
  exchange->Respond({.body = json.Take()});
}

void App::Load(const ExchangePtr& exchange) {
  const EngineStats stats = engine_->stats();
  JsonWriter json;
  json.BeginArray().BeginObject().Key("dp_rank").Int(0);
  json.Key("num_reqs").Int(stats.running_requests + stats.queued_requests);
  json.Key("num_waiting_reqs").Int(stats.queued_requests);
  json.Key("num_tokens").Int(stats.kv_tokens_used).EndObject().EndArray();
  exchange->Respond({.body = json.Take()});
}

void App::ShowMetrics(const ExchangePtr& exchange) {
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  if (phase_ == Phase::kStarting) {
    response.body = metrics_.Expose(nullptr, nullptr);
  } else {
    const EngineStats stats = engine_->stats();
    response.body = metrics_.Expose(&engine_->info(), &stats);
  }
  exchange->Respond(std::move(response));
}

}  // namespace sluice
