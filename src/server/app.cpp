#include "server/app.h"

#include <arpa/inet.h>

#include <algorithm>

#include "base/clock.h"
#include "base/log.h"
#include "server/api/api_error.h"
#include "server/http/head_scanner.h"

namespace sluice {
namespace {

constexpr std::string_view kModelPrefix = "/v1/models/";
constexpr size_t kHealthJobsMax = 1;

/// Whether `method` is one of the space-separated `methods`.
bool Allows(std::string_view methods, std::string_view method) {
  if (method == "HEAD") method = "GET";
  while (!methods.empty()) {
    const size_t end = std::min(methods.find(' '), methods.size());
    if (methods.substr(0, end) == method) return true;
    methods.remove_prefix(std::min(end + 1, methods.size()));
  }
  return false;
}

bool IsJsonMediaType(std::string_view content_type) {
  std::string_view type = content_type.substr(0, content_type.find(';'));
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.remove_suffix(1);
  return EqualsIgnoreCase(type, "application/json");
}

/// The name in a Host field, without its port and without the brackets of an IPv6 address.
std::string_view HostName(std::string_view host) {
  if (host.starts_with('[')) return host.substr(1, std::min(host.find(']'), host.size()) - 1);
  return host.substr(0, host.find(':'));
}

bool IsAddress(std::string_view name) {
  in6_addr parsed;  // room for either
  const std::string text(name);
  return inet_pton(AF_INET, text.c_str(), &parsed) == 1 ||
         inet_pton(AF_INET6, text.c_str(), &parsed) == 1;
}

ApiError UnsupportedMedia(std::string message) {
  return {400, "BadRequestError", "unsupported_media_type", std::move(message), "", 0};
}

/// "POST PUT" as "POST, PUT".
std::string AsList(std::string_view methods) {
  std::string list;
  for (const char c : methods) list += c == ' ' ? std::string(", ") : std::string(1, c);
  return list;
}

HttpResponse CorsAnswer(const HttpRequest& request) {
  HttpResponse response;
  response.status = 204;
  response.content_type.clear();
  response.fields.emplace_back("Access-Control-Allow-Methods", "GET, POST, PUT, OPTIONS");
  // "*" would not cover Authorization, so the asked headers are repeated.
  const std::string asked(request.Field("Access-Control-Request-Headers"));
  response.fields.emplace_back("Access-Control-Allow-Headers", asked.empty() ? "*" : asked);
  response.fields.emplace_back("Access-Control-Max-Age", "600");
  return response;
}

}  // namespace

// clang-format off
const App::Route App::kRoutes[] = {
    // path                    methods     handler                where            needs
    {"/generate",              "POST PUT", &App::Generate,        Route::kWorker,  Route::kAdmission},
    {"/v1/completions",        "POST",     &App::Completions,     Route::kWorker,  Route::kAdmission},
    {"/v1/chat/completions",   "POST",     &App::ChatCompletions, Route::kWorker,  Route::kAdmission},
    {"/invocations",           "POST",     &App::ChatCompletions, Route::kWorker,  Route::kAdmission},
    {"/tokenize",              "POST",     &App::Tokenize,        Route::kWorker,  Route::kModel},
    {"/v1/tokenize",           "POST",     &App::Tokenize,        Route::kWorker,  Route::kModel},
    {"/detokenize",            "POST",     &App::Detokenize,      Route::kWorker,  Route::kModel},
    {"/v1/detokenize",         "POST",     &App::Detokenize,      Route::kWorker,  Route::kModel},
    {"/tokenizer_info",        "GET",      &App::TokenizerInfo,   Route::kInline,  Route::kModel},
    {"/v1/models",             "GET",      &App::Models,          Route::kInline,  Route::kModel},
    {"/get_model_info",        "GET",      &App::ModelInfo,       Route::kInline,  Route::kModel},
    {"/model_info",            "GET",      &App::ModelInfo,       Route::kInline,  Route::kModel},
    {"/get_server_info",       "GET",      &App::ServerInfo,      Route::kInline,  Route::kModel},
    {"/server_info",           "GET",      &App::ServerInfo,      Route::kInline,  Route::kModel},
    {"/get_load",              "GET",      &App::Load,            Route::kInline,  Route::kModel},
    {"/version",               "GET",      &App::Version,         Route::kInline,  Route::kNothing},
    {"/metrics",               "GET",      &App::ShowMetrics,     Route::kInline,  Route::kNothing},
    {"/health",                "GET",      &App::Health,          Route::kInline,  Route::kNothing},
    {"/health_generate",       "GET",      &App::HealthGenerate,  Route::kInline,  Route::kNothing},
    {"/livez",                 "GET",      &App::Live,            Route::kInline,  Route::kNothing},
    {"/readyz",                "GET",      &App::Ready,           Route::kInline,  Route::kNothing},
    {"/ping",                  "GET",      &App::Health,          Route::kInline,  Route::kNothing},
    {"/abort_request",         "POST",     &App::AbortRequest,    Route::kInline,  Route::kModel},
    {"/flush_cache",           "GET POST", &App::FlushCache,      Route::kInline,  Route::kModel},
    {kModelPrefix,             "GET",      &App::Model,           Route::kInline,  Route::kModel},
};
// clang-format on

App::App(AppOptions options)
    : options_(std::move(options)),
      config_(options_.api),
      metrics_({options_.metrics_prefix, options_.served_model_name}),
      created_(UnixSeconds()),
      health_worker_(1, kHealthJobsMax),
      workers_(options_.worker_threads, options_.worker_jobs_max) {
  config_.model_name = options_.served_model_name;
}

App::~App() = default;

void App::Stop() {
  workers_.Stop();
  health_worker_.Stop();
  health_waiting_.clear();
}

void App::SetEngine(Engine* engine, const TextService* text) {
  const EngineInfo& info = engine->info();
  config_.vocab_size = info.vocab_size;
  config_.context_length = info.context_length;
  if (options_.sampling_defaults_from_model) config_.openai_defaults = info.defaults;
  text_ = text;
  engine_ = engine;
}

const App::Route* App::FindRoute(std::string_view path) {
  for (const Route& route : kRoutes)
    if (route.path == path) return &route;
  if (path.starts_with(kModelPrefix)) return &kRoutes[std::size(kRoutes) - 1];
  return nullptr;
}

HttpResponse App::NotReady() const {
  switch (phase_) {
    case Phase::kStarting:
    case Phase::kWarming:
      return ErrorResponse(ToApiError(Error(Code::kNotReady, "the model is being loaded")));
    default: {
      HttpResponse response =
          ErrorResponse(ToApiError(Error(Code::kDraining, "the server is shutting down")));
      response.close = true;
      return response;
    }
  }
}

bool App::HostIsAllowed(std::string_view host) const {
  if (!options_.check_host) return true;
  const std::string_view name = HostName(host);
  return name.empty() || IsAddress(name) || EqualsIgnoreCase(name, "localhost") ||
         std::any_of(options_.allowed_hosts.begin(), options_.allowed_hosts.end(),
                     [&](const std::string& allowed) { return EqualsIgnoreCase(name, allowed); });
}

std::optional<HttpResponse> App::Precheck(const HttpRequest& head) {
  if (!HostIsAllowed(head.Field("Host")))
    return ErrorResponse(HttpError(
        403,
        fmt::format("Host {} is not a name of this server: allowed are IP addresses, localhost "
                    "and those of --allowed-host",
                    Quoted(head.Field("Host")))));
  const Route* route = FindRoute(head.path);
  if (head.method == "OPTIONS" && (route || head.path == "*")) return CorsAnswer(head);
  if (!route)
    return ErrorResponse(HttpError(404, fmt::format("there is no route {}", Quoted(head.path))));
  if (!Allows(route->methods, head.method)) {
    HttpResponse response = ErrorResponse(
        HttpError(405, fmt::format("{} does not allow {}", route->path, Quoted(head.method))));
    response.fields.emplace_back("Allow", AsList(route->methods));
    return response;
  }
  const std::string_view coding = head.Field("Content-Encoding");
  if (!coding.empty() && !EqualsIgnoreCase(coding, "identity"))
    return ErrorResponse(UnsupportedMedia(
        fmt::format("Content-Encoding {} is not supported: send plain JSON", Quoted(coding))));
  if (head.method == "POST" && head.path.starts_with("/v1/") &&
      !IsJsonMediaType(head.Field("Content-Type")))
    return ErrorResponse(UnsupportedMedia(fmt::format(
        "Content-Type must be application/json, found {}", Quoted(head.Field("Content-Type")))));
  const Phase phase = phase_;
  const bool loading = phase == Phase::kStarting;
  const bool admits = phase == Phase::kReady || phase == Phase::kDraining;
  if ((route->needs == Route::kModel && loading) || (route->needs == Route::kAdmission && !admits))
    return NotReady();
  return std::nullopt;
}

void App::Handle(std::shared_ptr<Exchange> exchange) {
  const Route& route = *FindRoute(exchange->request().path);  // Precheck let it pass
  if (route.where == Route::kInline) return Guarded(route, exchange);
  if (workers_.TryPost([this, &route, exchange] { Guarded(route, exchange); })) return;
  metrics_.CountRejection("workers");
  exchange->Respond(ErrorResponse(
      ToApiError(Error(Code::kQueueFull, "The request queue is full: {} requests wait to be parsed",
                       options_.worker_jobs_max))));
}

void App::Guarded(const Route& route, const ExchangePtr& exchange) {
  try {
    (this->*route.run)(exchange);
  } catch (const std::bad_alloc&) {
    exchange->Respond(ErrorResponse(
        ToApiError(Error(Code::kOutOfMemory, "out of memory while handling the request"))));
  } catch (const std::exception& e) {
    log::Error("{}: {}", route.path, e.what());
    exchange->Respond(ErrorResponse(ToApiError(Error(Code::kInternal, "internal error"))));
  }
}

HttpResponse App::Refusal(int status, const std::string& message) {
  return ErrorResponse(HttpError(status, message));
}

void App::Completed(const HttpRequest* request, int status) {
  if (!request) return metrics_.CountHttp("invalid", status);
  const Route* route = FindRoute(request->path);
  metrics_.CountHttp(route ? route->path : "unknown", status);
  log::Debug("{} {} {}", request->method, Quoted(request->path), status);
}

}  // namespace sluice
