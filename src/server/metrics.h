// What /metrics shows. Names follow SGLang, so that its dashboards work; ours begin with x_.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "sluice/engine.h"

namespace sluice {

struct MetricsOptions {
  std::string prefix = "sglang:";
  std::string model_name;
};

/// Thread-safe.
class Metrics {
 public:
  explicit Metrics(const MetricsOptions& options);
  ~Metrics();

  void CountHttp(std::string_view route, int status);
  void CountRequests(int64_t count, bool is_streaming);
  void CountDisconnect();
  void CountInbandError();
  void CountRejection(std::string_view reason);

  /// From the request's head to its first token.
  void ObserveFirstToken(double seconds, bool is_streaming);
  /// Gap before each of `tokens` tokens.
  void ObserveTokenGap(double seconds, int64_t tokens);
  void ObserveQueue(double seconds);
  /// One generation is over.
  void ObserveFinished(double seconds, int64_t prompt_tokens, int64_t completion_tokens,
                       int64_t cached_tokens, bool aborted, bool is_streaming);

  /// Prometheus text 0.0.4. `info` and `stats` fill the gauges; both null while loading.
  std::string Expose(const EngineInfo* info, const EngineStats* stats);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
