// The routes: which path means what, what it needs, and where it runs.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "server/api/call.h"
#include "server/api/text_service.h"
#include "server/http/http_server.h"
#include "server/metrics.h"
#include "server/work_pool.h"

namespace sluice {

/// The server's life. Only kReady and kDraining admit generations.
enum class Phase { kStarting, kWarming, kReady, kDraining, kStopping };

struct AppOptions {
  std::string served_model_name;  // empty: the model's path
  bool sampling_defaults_from_model = true;
  std::string flags_json = "{}";  // the launch flags, for /get_server_info
  std::string metrics_prefix = "sglang:";
  int worker_threads = 2;
  size_t worker_jobs_max = 1024;
  double health_timeout_seconds = 20;
  // Names that a Host field may give, beside IP addresses and localhost; without any, all of them.
  // A web page that resolves its own name to this machine (DNS rebinding) gives that name.
  std::vector<std::string> allowed_hosts;
  bool check_host = false;
  ApiConfig api;  // settings; what depends on the model is filled in later
};

class App final : public HttpHandler {
 public:
  explicit App(AppOptions options);
  ~App() override;

  /// Once, after loading. Both are borrowed; `text` may be null. Then the phase may go on.
  void SetEngine(Engine* engine, const TextService* text);
  void SetPhase(Phase phase) { phase_ = phase; }
  Phase phase() const { return phase_; }
  Metrics& metrics() { return metrics_; }
  /// Joins the workers; the HTTP server must have been stopped. The engine may go after this.
  void Stop();
  /// Requests that workers hold.
  size_t pending_jobs() const { return workers_.pending() + health_worker_.pending(); }

  std::optional<HttpResponse> Precheck(const HttpRequest& head) override;
  void Handle(std::shared_ptr<Exchange> exchange) override;
  HttpResponse Refusal(int status, const std::string& message) override;
  void Completed(const HttpRequest* request, int status) override;

 private:
  using ExchangePtr = std::shared_ptr<Exchange>;
  struct Route {
    std::string_view path;
    std::string_view methods;  // "GET", "POST", "POST PUT", ...; GET includes HEAD
    void (App::*run)(const ExchangePtr&);
    enum Where { kInline, kWorker } where;
    enum Needs { kNothing, kModel, kAdmission } needs;
  };
  static const Route kRoutes[];
  static const Route* FindRoute(std::string_view path);
  HttpResponse NotReady() const;
  bool HostIsAllowed(std::string_view host) const;
  bool Healthy() const;
  void Guarded(const Route& route, const ExchangePtr& exchange);

  // routes_generate.cpp
  void Generate(const ExchangePtr& exchange);
  void Completions(const ExchangePtr& exchange);
  void ChatCompletions(const ExchangePtr& exchange);
  void StartCall(const ExchangePtr& exchange, Api api);
  void Tokenize(const ExchangePtr& exchange);
  void Detokenize(const ExchangePtr& exchange);
  // routes_info.cpp
  void Models(const ExchangePtr& exchange);
  void Model(const ExchangePtr& exchange);
  void ModelInfo(const ExchangePtr& exchange);
  void ServerInfo(const ExchangePtr& exchange);
  void Version(const ExchangePtr& exchange);
  void TokenizerInfo(const ExchangePtr& exchange);
  void Load(const ExchangePtr& exchange);
  void ShowMetrics(const ExchangePtr& exchange);
  void WriteModelCard(class JsonWriter& json) const;
  // routes_control.cpp
  void Health(const ExchangePtr& exchange);
  void HealthGenerate(const ExchangePtr& exchange);
  void Live(const ExchangePtr& exchange);
  void Ready(const ExchangePtr& exchange);
  void AbortRequest(const ExchangePtr& exchange);
  void FlushCache(const ExchangePtr& exchange);
  bool ProbeEngine();

  AppOptions options_;
  ApiConfig config_;
  Metrics metrics_;
  const int64_t created_;
  std::atomic<Phase> phase_{Phase::kStarting};
  Engine* engine_ = nullptr;  // set before the phase leaves kStarting
  const TextService* text_ = nullptr;
  std::mutex health_mutex_;
  std::vector<ExchangePtr> health_waiting_;  // answered together by one probe
  WorkPool health_worker_;
  WorkPool workers_;  // last: it stops first
};

}  // namespace sluice
