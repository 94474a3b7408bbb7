#include "cli/bench/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>

#include "base/clock.h"
#include "base/machine.h"
#include "base/random.h"
#include "base/team.h"
#include "base/trace.h"
#include "base/units.h"
#include "bench/machine_ceilings.h"
#include "bench/peaks.h"
#include "kernels/linear/panel_product.h"

namespace sluice {
namespace {

/// Sends requests of random ids and waits for all of them.
class Load {
 public:
  Load(Engine& engine, const BenchOptions& options) : engine_(engine), random_(options.seed) {}

  /// Seconds until the last of `count` requests has `new_tokens` tokens.
  Result<double> Run(int count, int64_t prompt_tokens, int64_t new_tokens) {
    const double start = MonotonicSeconds();
    left_ = count;
    for (int i = 0; i < count; ++i) {
      GenerateRequest request;
      for (int64_t t = 0; t < prompt_tokens; ++t)
        request.input_ids.push_back(
            static_cast<int32_t>(random_.Below(static_cast<uint64_t>(engine_.info().vocab_size))));
      request.sampling.max_new_tokens = new_tokens;
      request.sampling.temperature = 0;
      request.sampling.ignore_eos = true;
      const auto id = engine_.Submit(std::move(request), [this](GenerateEvent&& event) {
        if (!event.finish) return;
        const std::lock_guard lock(mutex_);
        if (event.finish->type == FinishReason::Type::kAbort) failure_ = event.finish->error;
        if (--left_ == 0) done_.notify_one();
      });
      if (!id.ok()) return id.status();
    }
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return left_ == 0; });
    if (failure_) return *failure_;
    return MonotonicSeconds() - start;
  }

 private:
  Engine& engine_;
  SplitMix64 random_;
  std::mutex mutex_;
  std::condition_variable done_;
  int left_ = 0;
  std::optional<Status> failure_;
};

// Measured before and after the model: memory that is shared with other machines gives half as much
// again in one minute as in another.
void PrintCeilings(const char* when, int threads) {
  const PinnedCaller pinned;
  const bench::PeakLoop& peak = bench::PeakOfKernel(SelectPanelKernel(ThisMachine(), true).name);
  Team team(threads, true);
  const bench::RunLanes run = [&](const std::function<void(int)>& function) {
    team.Run([&](int lane) { function(lane); });
  };
  const bench::ReadBandwidth memory;
  std::vector<double> flops, products, bytes;
  for (int i = 0; i < 5; ++i) {
    flops.push_back(bench::FmaFlops(threads, run));
    products.push_back(bench::MeasurePeak(peak, bench::Feed::kRegisters, threads, run));
    bytes.push_back(memory.Measure(threads, run));
  }
  fmt::print("ceilings {}: {:.0f} GFLOP/s fp32 FMA, {:.0f} {}, {:.1f} GB/s read\n", when,
             bench::Median(flops) * 1e-9, bench::Median(products) * 1e-9, peak.product,
             bench::Median(bytes) * 1e-9);
}

void PrintOperations(const char* title, int64_t steps, double seconds) {
  auto totals = trace::Totals();
  std::sort(totals.begin(), totals.end(),
            [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
  fmt::print("\n{}: {:.3f} ms a step over {} steps\n", title,
             seconds * 1e3 / static_cast<double>(steps), steps);
  fmt::print("  {:<28} {:>10} {:>8} {:>8}\n", "operation", "ms/step", "share", "calls");
  for (const trace::Total& total : totals)
    fmt::print("  {:<28} {:>10.4f} {:>7.1f}% {:>8.1f}\n", total.name,
               total.seconds * 1e3 / static_cast<double>(steps), 100 * total.seconds / seconds,
               static_cast<double>(total.count) / static_cast<double>(steps));
}

Status BenchConcurrency(Engine& engine, const BenchOptions& options, int concurrency) {
  Load load(engine, options);
  const auto steps = [&] { return engine.stats().steps; };
  std::vector<double> prefill, decode;
  for (int run = -1; run < options.runs; ++run) {  // run -1 warms up
    // Prompts alone, then short prompts with long answers, so that each phase is one kind of step.
    TRY(const double prompt_seconds, load.Run(concurrency, options.prompt_tokens, 1));
    TRY(const double answer_seconds, load.Run(concurrency, 1, options.decode_tokens));
    if (run < 0) continue;
    prefill.push_back(static_cast<double>(concurrency * options.prompt_tokens) / prompt_seconds);
    decode.push_back(static_cast<double>(concurrency * options.decode_tokens) / answer_seconds);
  }
  fmt::print("\n{} at a time: prefill {:.0f} tokens/s, decode {:.1f} tokens/s (medians of {})\n",
             concurrency, bench::Median(prefill), bench::Median(decode), options.runs);
  // Once more with spans on, for the shares; spans cost a little, so they stay out of the figures.
  trace::Enable();
  trace::Reset();
  int64_t before = steps();
  TRY(const double prompt_seconds, load.Run(concurrency, options.prompt_tokens, 1));
  PrintOperations("prefill", std::max<int64_t>(steps() - before, 1), prompt_seconds);
  trace::Reset();
  before = steps();
  TRY(const double answer_seconds, load.Run(concurrency, 1, options.decode_tokens));
  PrintOperations("decode", std::max<int64_t>(steps() - before, 1), answer_seconds);
  trace::Disable();
  return {};
}

}  // namespace

int RunBench(const BenchOptions& options) {
  const auto engine = Engine::Open(options.engine);
  Status status = engine.status();
  if (status.ok()) {
    const EngineInfo& info = (*engine)->info();
    fmt::print("{}, {} threads, {}\n", ProcessorName(), info.threads,
               DescribeFeatures(ThisMachine()));
    PrintCeilings("before", info.threads);
    fmt::print("{}: {} layers ({} linear), {} of weights, {} prompt tokens, {} answer tokens\n",
               info.model_path, info.layers, info.linear_layers, FormatBytes(info.weight_bytes),
               options.prompt_tokens, options.decode_tokens);
    for (const int concurrency : options.concurrency) {
      status = BenchConcurrency(**engine, options, concurrency);
      if (!status.ok()) break;
    }
    fmt::print("\n");
    PrintCeilings("after", info.threads);
  }
  if (status.ok()) return 0;
  fmt::print(stderr, "sluice bench: {}\n", status.message());
  return 2;
}

}  // namespace sluice
