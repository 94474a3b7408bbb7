#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <map>
#include <mutex>

namespace sluice {
namespace {

namespace prom = prometheus;

// clang-format off
const prom::Histogram::BucketBoundaries kFirstTokenBuckets = {
    .1, .2, .4, .6, .8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400};
const prom::Histogram::BucketBoundaries kEndToEndBuckets = {
    .1, .2, .4, .6, .8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400, 600, 1200, 1800, 2400};
const prom::Histogram::BucketBoundaries kGapBuckets = {
    .002, .004, .006, .008, .01, .015, .02, .025, .03, .035, .04, .06, .08, .1, .2, .4, .6, .8, 1, 2, 4, 6, 8};
// clang-format on

prom::Histogram::BucketBoundaries PowersOfTwo() {
  prom::Histogram::BucketBoundaries bounds;
  for (int exponent = 0; exponent <= 20; ++exponent) bounds.push_back(1 << exponent);
  return bounds;
}

const char* BoolLabel(bool value) { return value ? "true" : "false"; }

}  // namespace

struct Metrics::Impl {
  explicit Impl(const MetricsOptions& options) : prefix(options.prefix) {
    labels = {{"model_name", options.model_name},
              {"engine_type", "unified"},
              {"tp_rank", "0"},
              {"pp_rank", "0"}};
  }

  prom::Family<prom::Counter>& CounterFamily(const std::string& name, const std::string& help) {
    return prom::BuildCounter().Name(prefix + name).Help(help).Labels(labels).Register(registry);
  }
  prom::Counter& Counter(const std::string& name, const std::string& help,
                         const prom::Labels& more = {}) {
    return CounterFamily(name, help).Add(more);
  }
  prom::Histogram& Histogram(const std::string& name, const std::string& help,
                             const prom::Histogram::BucketBoundaries& bounds,
                             const prom::Labels& more = {}) {
    return prom::BuildHistogram()
        .Name(prefix + name)
        .Help(help)
        .Labels(labels)
        .Register(registry)
        .Add(more, bounds);
  }
  void Gauge(const std::string& name, const std::string& help, double value) {
    prom::BuildGauge()
        .Name(prefix + name)
        .Help(help)
        .Labels(labels)
        .Register(registry)
        .Add({})
        .Set(value);
  }
  void Raise(prom::Counter& counter, double value) {  // counters only grow
    counter.Increment(std::max(0.0, value - counter.Value()));
  }
  void SetStats(const EngineStats& stats);
  void SetInfo(const EngineInfo& info);

  const std::string prefix;
  prom::Labels labels;
  prom::Registry registry{prom::Registry::InsertBehavior::Merge};
  std::mutex mutex;  // of http_counters and of exposing
  std::map<std::pair<std::string, int>, prom::Counter*> http_counters;

  struct PerStreaming {
    prom::Counter *requests, *prompt_tokens, *generated_tokens;
    prom::Histogram* first_token;
  };
  PerStreaming streaming[2];
  prom::Counter *cached_tokens, *aborted, *disconnects, *inband_errors, *retracted;
  prom::Histogram *gap, *end_to_end, *queue, *prompt_lengths, *answer_lengths;
};

Metrics::Metrics(const MetricsOptions& options) : impl_(std::make_unique<Impl>(options)) {
  Impl& m = *impl_;
  for (const bool is_streaming : {false, true}) {
    const prom::Labels label = {{"is_streaming", BoolLabel(is_streaming)}};
    m.streaming[is_streaming] = {
        &m.Counter("num_requests_total", "Generation requests.", label),
        &m.Counter("prompt_tokens_total", "Prompt tokens of finished requests.", label),
        &m.Counter("generation_tokens_total", "Generated tokens of finished requests.", label),
        &m.Histogram("time_to_first_token_seconds", "From the request's head to its first token.",
                     kFirstTokenBuckets, label)};
  }
  m.cached_tokens = &m.Counter("cached_tokens_total", "Prompt tokens taken from the prefix cache.",
                               {{"cache_source", "device"}});
  m.aborted = &m.Counter("num_aborted_requests_total", "Requests that were aborted.");
  m.retracted = &m.Counter("num_retracted_requests_total", "Requests that yielded their memory.");
  m.disconnects =
      &m.Counter("x_client_disconnects_total", "Clients that went away before the end.");
  m.inband_errors = &m.Counter("x_inband_errors_total", "Errors sent inside a stream.");
  m.gap = &m.Histogram("inter_token_latency_seconds", "Gap before a token.", kGapBuckets);
  m.end_to_end = &m.Histogram("e2e_request_latency_seconds", "Whole requests.", kEndToEndBuckets);
  m.queue =
      &m.Histogram("queue_time_seconds", "From submission to first admission.", kFirstTokenBuckets);
  m.prompt_lengths = &m.Histogram("prompt_tokens_histogram", "Prompt lengths.", PowersOfTwo());
  m.answer_lengths = &m.Histogram("generation_tokens_histogram", "Answer lengths.", PowersOfTwo());
}

Metrics::~Metrics() = default;

void Metrics::CountHttp(std::string_view route, int status) {
  const std::lock_guard lock(impl_->mutex);
  prom::Counter*& counter = impl_->http_counters[{std::string(route), status}];
  if (!counter)
    counter =
        &impl_->Counter("x_http_requests_total", "Answered HTTP requests (499: the client left).",
                        {{"route", std::string(route)}, {"code", std::to_string(status)}});
  counter->Increment();
}

void Metrics::CountRequests(int64_t count, bool is_streaming) {
  impl_->streaming[is_streaming].requests->Increment(static_cast<double>(count));
}
void Metrics::CountDisconnect() { impl_->disconnects->Increment(); }
void Metrics::CountInbandError() { impl_->inband_errors->Increment(); }
void Metrics::CountRejection(std::string_view reason) {
  impl_
      ->Counter("x_queue_rejections_total", "Requests refused because a queue was full.",
                {{"reason", std::string(reason)}})
      .Increment();
}

void Metrics::ObserveFirstToken(double seconds, bool is_streaming) {
  impl_->streaming[is_streaming].first_token->Observe(seconds);
}
void Metrics::ObserveTokenGap(double seconds, int64_t tokens) {
  for (int64_t i = 0; i < tokens; ++i) impl_->gap->Observe(seconds);
}
void Metrics::ObserveQueue(double seconds) { impl_->queue->Observe(seconds); }

void Metrics::ObserveFinished(double seconds, int64_t prompt_tokens, int64_t completion_tokens,
                              int64_t cached_tokens, bool aborted, bool is_streaming) {
  Impl::PerStreaming& counters = impl_->streaming[is_streaming];
  counters.prompt_tokens->Increment(static_cast<double>(prompt_tokens));
  counters.generated_tokens->Increment(static_cast<double>(completion_tokens));
  impl_->cached_tokens->Increment(static_cast<double>(cached_tokens));
  impl_->end_to_end->Observe(seconds);
  impl_->prompt_lengths->Observe(static_cast<double>(prompt_tokens));
  impl_->answer_lengths->Observe(static_cast<double>(completion_tokens));
  if (aborted) impl_->aborted->Increment();
}

void Metrics::Impl::SetStats(const EngineStats& stats) {
  const auto share = [](int64_t used, int64_t total) {
    return total > 0 ? static_cast<double>(used) / static_cast<double>(total) : 0.0;
  };
  const double kv_usage = share(stats.kv_tokens_used, stats.kv_tokens_total);
  const double state_usage = share(stats.state_slots_used, stats.state_slots_total);
  Gauge("num_running_reqs", "Running requests.", static_cast<double>(stats.running_requests));
  Gauge("num_queue_reqs", "Waiting requests.", static_cast<double>(stats.queued_requests));
  Gauge("gen_throughput", "Generated tokens per second.", stats.generation_tokens_per_second);
  Gauge("token_usage", "Share of the fullest pool in use.", std::max(kv_usage, state_usage));
  Gauge("full_token_usage", "Share of the KV pool in use.", kv_usage);
  Gauge("mamba_usage", "Share of the recurrent state slots in use.", state_usage);
  Gauge("num_used_tokens", "KV tokens in use.", static_cast<double>(stats.kv_tokens_used));
  Gauge("kv_used_tokens", "KV tokens in use.", static_cast<double>(stats.kv_tokens_used));
  Gauge("kv_available_tokens", "KV tokens free.",
        static_cast<double>(stats.kv_tokens_total - stats.kv_tokens_used));
  Gauge("mamba_used", "Recurrent state slots in use.", static_cast<double>(stats.state_slots_used));
  Gauge("mamba_available", "Recurrent state slots free.",
        static_cast<double>(stats.state_slots_total - stats.state_slots_used));
  Gauge("cache_hit_rate", "Share of prompt tokens from the prefix cache.", 0);
  Raise(*retracted, static_cast<double>(stats.retracted_requests));
  Raise(Counter("forward_execution_seconds_total", "Time in steps.", {{"category", "all"}}),
        stats.step_seconds);
  Raise(Counter("x_steps_total", "Steps.", {{"kind", "prefill"}}),
        static_cast<double>(stats.prefill_steps));
  Raise(Counter("x_steps_total", "Steps.", {{"kind", "decode"}}),
        static_cast<double>(stats.steps - stats.prefill_steps));
}

void Metrics::Impl::SetInfo(const EngineInfo& info) {
  constexpr double kGigabyte = 1024.0 * 1024.0 * 1024.0;
  Gauge("max_total_num_tokens", "KV capacity in tokens.",
        static_cast<double>(info.max_total_tokens));
  Gauge("context_len", "Context length.", static_cast<double>(info.context_length));
  Gauge("page_size", "Tokens a KV page.", static_cast<double>(info.page_size));
  Gauge("num_pages", "KV pages.",
        static_cast<double>(info.page_size > 0 ? info.max_total_tokens / info.page_size : 0));
  Gauge("weight_memory_usage_gb", "Weights.", static_cast<double>(info.weight_bytes) / kGigabyte);
  Gauge("kv_cache_memory_usage_gb", "KV pool.", static_cast<double>(info.kv_bytes) / kGigabyte);
  Gauge("x_state_bytes", "Recurrent state pool.", static_cast<double>(info.state_bytes));
  Gauge("x_kv_bytes", "KV pool.", static_cast<double>(info.kv_bytes));
  Gauge("x_load_seconds", "Time to load the model.", info.load_seconds);
}

std::string Metrics::Expose(const EngineInfo* info, const EngineStats* stats) {
  const std::lock_guard lock(impl_->mutex);
  if (info) impl_->SetInfo(*info);
  if (stats) impl_->SetStats(*stats);
  return prom::TextSerializer().Serialize(impl_->registry.Collect());
}

}  // namespace sluice
