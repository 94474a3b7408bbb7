// `sluice serve`: the HTTP server.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/json/array.hpp>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/foreign_flags.h"
#include "cli/number_checks.h"
#include "server/api/read_request.h"
#include "server/json/json_reader.h"
#include "server/json/json_writer.h"
#include "server/run_server.h"
#include "server/signals.h"

namespace sluice {
namespace {

bool IsLoopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

class ServeCommand final : public Command {
 public:
  const char* name() const override { return "serve"; }
  const char* summary() const override {
    return "Serve a model over HTTP: OpenAI's API and SGLang's native one";
  }
  void AddFlags(CLI::App& parser) override;
  int Run() override;

 private:
  void AddHttpFlags(CLI::App& parser);
  void AddApiFlags(CLI::App& parser);
  void AddLimitFlags(CLI::App& parser);
  void WriteEngineFlags(JsonWriter& json) const;
  void WriteServerFlags(JsonWriter& json) const;
  Status ReadPreferredSampling();
  std::string FlagsJson() const;  // for /get_server_info: every flag under its own name
  void PrintLimits() const;

  EngineFlags engine_;
  ServerOptions server_;
  ForeignFlags foreign_;
  std::string sampling_defaults_ = "model", logprobs_mode_, preferred_sampling_;
  bool skip_warmup_ = false, print_limits_ = false;
};

void ServeCommand::AddFlags(CLI::App& parser) {
  AddEngineFlags(parser, engine_);
  server_.http.port = 30000;
  AddHttpFlags(parser);
  AddApiFlags(parser);
  AddLimitFlags(parser);
  foreign_.AddTo(parser);
  parser.footer(
      "Then:\n"
      "  curl http://127.0.0.1:30000/v1/chat/completions -H 'Content-Type: application/json' \\\n"
      "    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'\n"
      "Other flags of SGLang are accepted; those that ask for what is not built are refused by "
      "name.");
}

void ServeCommand::AddHttpFlags(CLI::App& parser) {
  const char* const group = "HTTP";
  parser.add_option("--host", server_.http.host, "Address to listen on")
      ->capture_default_str()
      ->group(group);
  parser.add_option("--port", server_.http.port, "0: a free one, printed")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str()
      ->group(group);
  parser
      .add_option("--allowed-host", server_.app.allowed_hosts,
                  "A name that requests may give in Host, beside IP addresses and localhost, where "
                  "--host is a loopback address; * for any; repeatable")
      ->group(group);
  parser
      .add_option("--http-keep-alive-timeout", server_.http.limits.keep_alive_seconds,
                  "Seconds an idle connection stays open")
      ->check(Positive)
      ->capture_default_str()
      ->group(group);
  parser
      .add_option("--drain-seconds", server_.drain_seconds,
                  "After SIGTERM: unready for so long, but still serving")
      ->check(NotNegative)
      ->capture_default_str()
      ->group(group);
  parser
      .add_option("--drain-timeout", server_.drain_timeout_seconds,
                  "Then: seconds for running requests to end [as long as they take]")
      ->check(NotNegative)
      ->group(group);
  parser
      .add_flag("--skip-server-warmup,!--no-skip-server-warmup", skip_warmup_,
                "Be ready without a first request of our own")
      ->group(group);
}

void ServeCommand::AddApiFlags(CLI::App& parser) {
  const char* const group = "API";
  ApiConfig& api = server_.app.api;
  parser
      .add_option("--served-model-name", server_.app.served_model_name,
                  "The model's name in the API [model path]")
      ->group(group);
  parser
      .add_flag("--strict-model-name,!--no-strict-model-name", api.strict_model_name,
                "Refuse requests for another model")
      ->group(group);
  parser
      .add_option("--sampling-defaults", sampling_defaults_,
                  "Of OpenAI routes: generation_config.json, or OpenAI's own")
      ->check(CLI::IsMember({"model", "openai"}))
      ->capture_default_str()
      ->group(group);
  parser
      .add_option("--preferred-sampling-params", preferred_sampling_,
                  "JSON object under the sampling_params of /generate")
      ->group(group);
  parser
      .add_option("--logprobs-mode", logprobs_mode_,
                  "Of generated tokens, on all routes [native: processed, OpenAI: raw]")
      ->check(CLI::IsMember({"processed", "raw"}))
      ->group(group);
  parser.add_option("--max-logprobs", api.max_logprobs, "Most logprobs of an OpenAI request")
      ->check(CLI::Range(0, 256))
      ->capture_default_str()
      ->group(group);
  parser.add_option("--stream-interval", api.stream_interval, "Tokens a stream frame")
      ->check(CLI::Range(int64_t{1}, int64_t{1'000'000}))
      ->capture_default_str()
      ->group(group);
  parser
      .add_flag("--incremental-streaming-output,--stream-output,!--no-incremental-streaming-output",
                api.incremental_streaming, "Native streams send only what is new")
      ->group(group);
  parser
      .add_flag("--allow-auto-truncate,!--no-allow-auto-truncate", api.allow_auto_truncate,
                "Cut prompts that are too long instead of refusing them")
      ->group(group);
  parser.add_option("--metrics-prefix", server_.app.metrics_prefix, "Of every metric's name")
      ->capture_default_str()
      ->group(group);
}

void ServeCommand::AddLimitFlags(CLI::App& parser) {
  const char* const group = "Limits";
  HttpLimits& limits = server_.http.limits;
  parser.add_option("--max-request-bytes", limits.body.body_bytes_max, "Larger bodies get 413")
      ->check(Positive)
      ->capture_default_str()
      ->group(group);
  parser.add_option("--max-connections", limits.connections_max, "More are refused with 503")
      ->check(Positive)
      ->capture_default_str()
      ->group(group);
  parser
      .add_option("--max-connections-per-address", limits.connections_per_address_max,
                  "Of one client address")
      ->check(Positive)
      ->capture_default_str()
      ->group(group);
  parser
      .add_option("--max-head-seconds", limits.head_seconds_max, "For a request's head to arrive")
      ->check(Positive)
      ->capture_default_str()
      ->group(group);
  parser
      .add_option("--max-body-seconds", limits.body_seconds_base,
                  "For its body, plus 1 s for each 64 KiB")
      ->check(Positive)
      ->capture_default_str()
      ->group(group);
  parser
      .add_option("--max-stalled-seconds", limits.stalled_seconds_max,
                  "For a client that does not read its stream")
      ->check(Positive)
      ->capture_default_str()
      ->group(group);
  parser
      .add_option("--max-queue-seconds", engine_.options.max_queue_seconds,
                  "A request that waits longer gets 503; 0: as long as it takes")
      ->check(NotNegative)
      ->capture_default_str()
      ->group(group);
  parser
      .add_option("--watchdog-timeout", server_.watchdog_seconds,
                  "Seconds of one step, after which the process aborts; 0: never")
      ->check(NotNegative)
      ->capture_default_str()
      ->group(group);
  parser.add_option("--worker-threads", server_.app.worker_threads, "That parse and tokenise")
      ->check(CLI::Range(1, 256))
      ->capture_default_str()
      ->group(group);
  parser.add_flag("--print-limits", print_limits_, "Show every limit and exit")->group(group);
}

void ServeCommand::WriteEngineFlags(JsonWriter& json) const {
  const EngineOptions& o = engine_.options;
  json.Key("model_path").String(o.model_path);
  json.Key("tokenizer_path").String(o.tokenizer_path.empty() ? o.model_path : o.tokenizer_path);
  json.Key("chat_template").String(o.chat_template);
  json.Key("skip_tokenizer_init").Bool(o.skip_tokenizer_init);
  json.Key("load_format").String(o.load_format).Key("dtype").String(o.dtype);
  json.Key("quantization").String(o.quantization);
  json.Key("quantization_group_size").Int(o.quantization_group_size);
  json.Key("quantization_zero_points").Bool(o.quantization_zero_points);
  json.Key("context_length").Int(o.context_length);
  json.Key("json_model_override_args").String(o.json_model_override_args);
  json.Key("mem_fraction_static").Number(o.mem_fraction_static);
  json.Key("recurrent_state_memory_ratio").Number(o.recurrent_state_memory_ratio);
  json.Key("max_recurrent_state_size").Int(o.max_recurrent_state_size);
  json.Key("max_running_requests").Int(o.max_running_requests);
  json.Key("max_total_tokens").Int(o.max_total_tokens);
  json.Key("max_queued_requests").Int(o.max_queued_requests);
  json.Key("max_queue_seconds").Number(o.max_queue_seconds);
  json.Key("decode_log_interval").Int(o.decode_log_interval);
  json.Key("chunked_prefill_size").Int(o.chunked_prefill_size);
  json.Key("max_prefill_tokens").Int(o.max_prefill_tokens).Key("page_size").Int(o.page_size);
  json.Key("activation_quantization").String(o.activation_quantization);
  json.Key("random_seed").Uint(o.random_seed).Key("moe_backend").String(o.moe_backend);
  json.Key("threads").Int(o.threads).Key("cpu_isa").String(o.cpu_isa);
  json.Key("log_level").String(engine_.log_level).Key("trace").String(engine_.trace_path);
}

void ServeCommand::WriteServerFlags(JsonWriter& json) const {
  const ApiConfig& api = server_.app.api;
  const HttpLimits& limits = server_.http.limits;
  json.Key("host").String(server_.http.host).Key("port").Int(server_.http.port);
  json.Key("allowed_host").BeginArray();
  for (const std::string& name : server_.app.allowed_hosts) json.String(name);
  json.EndArray().Key("http_keep_alive_timeout").Number(limits.keep_alive_seconds);
  json.Key("drain_seconds").Number(server_.drain_seconds).Key("drain_timeout");
  server_.drain_timeout_seconds ? json.Number(*server_.drain_timeout_seconds) : json.Null();
  json.Key("skip_server_warmup").Bool(skip_warmup_);
  json.Key("served_model_name").String(server_.app.served_model_name);
  json.Key("strict_model_name").Bool(api.strict_model_name);
  json.Key("preferred_sampling_params");
  preferred_sampling_.empty() ? json.Null() : json.Value(api.preferred_sampling);
  json.Key("sampling_defaults").String(sampling_defaults_).Key("logprobs_mode");
  logprobs_mode_.empty() ? json.Null() : json.String(logprobs_mode_);
  json.Key("max_logprobs").Int(api.max_logprobs).Key("stream_interval").Int(api.stream_interval);
  json.Key("incremental_streaming_output").Bool(api.incremental_streaming);
  json.Key("allow_auto_truncate").Bool(api.allow_auto_truncate);
  json.Key("metrics_prefix").String(server_.app.metrics_prefix);
  json.Key("max_request_bytes").Uint(limits.body.body_bytes_max);
  json.Key("max_connections").Int(limits.connections_max);
  json.Key("max_connections_per_address").Int(limits.connections_per_address_max);
  json.Key("max_head_seconds").Number(limits.head_seconds_max);
  json.Key("max_body_seconds").Number(limits.body_seconds_base);
  json.Key("max_stalled_seconds").Number(limits.stalled_seconds_max);
  json.Key("watchdog_timeout").Number(server_.watchdog_seconds);
  json.Key("worker_threads").Int(server_.app.worker_threads);
}

/// Whatever no request could say is refused now, not at the first request.
Status ServeCommand::ReadPreferredSampling() {
  if (preferred_sampling_.empty()) return {};
  constexpr const char* kFlag = "--preferred-sampling-params";
  auto parsed = ParseJson(preferred_sampling_);
  Status status = parsed.status();
  if (parsed.ok() && !parsed->is_object())
    status = Error(Code::kInvalidArgument, "must be a JSON object, found {}", Describe(*parsed));
  if (status.ok()) {
    ApiConfig any;
    any.vocab_size = std::numeric_limits<int32_t>::max();  // known when the model is
    const boost::json::value request = {{"input_ids", boost::json::array{0}},
                                        {"sampling_params", *parsed}};
    status = ReadGenerateRequest(request, any).status();
  }
  if (!status.ok()) return ParamError(status.code(), kFlag, "{}: {}", kFlag, status.message());
  server_.app.api.preferred_sampling = std::move(parsed->get_object());
  return {};
}

std::string ServeCommand::FlagsJson() const {
  JsonWriter json;
  json.BeginObject();
  WriteEngineFlags(json);
  WriteServerFlags(json);
  return json.EndObject().Take();
}

void ServeCommand::PrintLimits() const {
  const HttpLimits& limits = server_.http.limits;
  const auto row = [](const char* name, auto value) { fmt::print("{:<34}{}\n", name, value); };
  row("connections", limits.connections_max);
  row("connections per address", limits.connections_per_address_max);
  row("requests per connection", limits.requests_per_connection_max);
  row("request line (bytes)", limits.head.request_line_bytes_max);
  row("header fields (bytes)", limits.head.fields_bytes_max);
  row("header fields (count)", limits.head.field_count_max);
  row("head complete (s)", limits.head_seconds_max);
  row("body (bytes)", limits.body.body_bytes_max);
  row("body complete (s)", limits.body_seconds_base);
  row("  plus 1 s per (bytes)", limits.body_bytes_per_second);
  row("idle keep-alive (s)", limits.keep_alive_seconds);
  row("unsent output of a stream (bytes)", limits.unsent_bytes_max);
  row("  then cancelled after (s)", limits.stalled_seconds_max);
  row("queued requests", engine_.options.max_queued_requests);
  row("wait in the queue (s; 0: none)", engine_.options.max_queue_seconds);
  row("one step (s; 0: none)", server_.watchdog_seconds);
  row("requests waiting for a worker", server_.app.worker_jobs_max);
  row("logprobs of OpenAI routes", server_.app.api.max_logprobs);
}

int ServeCommand::Run() {
  if (print_limits_) {
    PrintLimits();
    return kExitOk;
  }
  Status status = ApplyEngineFlags(engine_);
  if (status.ok()) status = foreign_.Check();
  if (status.ok()) status = ReadPreferredSampling();
  if (!status.ok()) {
    fmt::print(stderr, "sluice: error: {}\n", status.message());
    return kExitUsage;
  }
  PrepareSignals();
  if (server_.app.served_model_name.empty())
    server_.app.served_model_name = engine_.options.model_path;
  server_.app.sampling_defaults_from_model = sampling_defaults_ == "model";
  if (!logprobs_mode_.empty()) server_.app.api.raw_logprobs = logprobs_mode_ == "raw";
  if (const char* seconds = std::getenv("SGLANG_HEALTH_CHECK_TIMEOUT");
      seconds && std::atof(seconds) > 0)
    server_.app.health_timeout_seconds = std::atof(seconds);
  // Only this machine can reach a loopback address, so a foreign name in Host is a web page's
  // trick.
  const auto& names = server_.app.allowed_hosts;
  server_.app.check_host =
      IsLoopback(server_.http.host) && std::find(names.begin(), names.end(), "*") == names.end();
  server_.force_shutdown = IsOn("SGL_FORCE_SHUTDOWN");
  server_.warm_up = !skip_warmup_;
  server_.app.flags_json = FlagsJson();
  const int exit_status = RunServer(server_, engine_.options);
  FinishEngineFlags(engine_);
  return exit_status;
}

}  // namespace

std::unique_ptr<Command> MakeServeCommand() { return std::make_unique<ServeCommand>(); }

}  // namespace sluice
