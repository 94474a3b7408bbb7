#include "cli/bench/moe_cuda.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/clock.h"
#include "cli/bench/cuda_memory.h"
#include "cli/bench/cuda_moe_case.h"
#include "cli/bench/cuda_router.h"
#include "cli/bench/device_chrome_trace.h"
#include "cli/bench/layer_bench.h"
#include "cli/bench/layer_report.h"
#include "kernels/moe/cuda_sm90/device_timing.h"
#include "kernels/moe/cuda_sm90/roofs.h"

namespace sluice {
namespace {

using moe_sm90::DeviceBuffer;
using moe_sm90::DeviceMoe;
using moe_sm90::DeviceWeights;
using moe_sm90::Element;

const char* NameOf(Element element) { return element == Element::kFp8 ? "fp8" : "bf16"; }

// A contender's kernels with their scratch, and its call as a graph.
struct Entry {
  const CudaContender* contender;
  std::unique_ptr<DeviceMoe> moe;  // nullptr: the router alone
  CudaReplay replay;

  std::string FaultText() const {
    const std::string text = moe ? moe->FaultText() : "";
    return text.empty() ? "" : "; " + text;
  }
};

// The router, where there is one, runs before every call.
LayerWork WorkOf(const CudaMoeCase& c, const Entry& entry, Element element,
                 const CudaRouter* router) {
  LayerWork work;
  if (entry.moe) work = c.Work(*entry.contender, element);
  if (router) {
    const LayerWork routing = router->Work();
    work.flop += routing.flop;
    work.bytes += routing.bytes;
  }
  return work;
}

class CudaMoeBench {
 public:
  static Result<std::unique_ptr<CudaMoeBench>> Make(const BenchMoeOptions& options);
  ~CudaMoeBench() { cudaStreamDestroy(stream_); }

  const ReportedMachine& machine() const { return machine_; }
  /// Every contender on so many tokens.
  Status MeasureTokens(const MoeShape& shape, const DeviceWeights& weights, Element element,
                       const std::vector<CudaContender>& contenders, int64_t tokens,
                       LayerReport& report);
  Status WriteTrace() { return trace_.Write(options_.trace_path); }

 private:
  explicit CudaMoeBench(const BenchMoeOptions& options) : options_(options) {}
  Status Prepare();

  Result<std::unique_ptr<DeviceMoe>> MakeMoe(const CudaMoeCase& c, const CudaContender& contender,
                                             const DeviceWeights& weights, Element element) const;
  Status RunOnce(DeviceMoe& moe, std::span<const moe_sm90::RankArgs> ranks) const;
  Result<bench::Ceilings> Ceilings(Element element) const;
  Result<double> ErrorBesidePlain(CudaMoeCase& c, const Entry& entry, const DeviceWeights& weights,
                                  Element element) const;
  Result<Entry> MakeEntry(const CudaMoeCase& c, const CudaContender& contender,
                          const DeviceWeights& weights, const CudaRouter* router,
                          Element element) const;
  Result<std::vector<LayerFigures>> Turns(CudaMoeCase& c, const std::vector<Entry>& entries,
                                          const CudaRouter* router, Element element,
                                          int64_t tokens) const;
  Result<double> RouterError(const CudaMoeCase& c, const CudaRouter& router) const;
  Result<StageBreakdown> Trace(CudaMoeCase& c, const Entry& entry, const DeviceWeights& weights,
                               Element element, const std::string& label);

  const BenchMoeOptions& options_;
  ReportedMachine machine_;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<moe_sm90::DeviceRoofs> roofs_;
  DeviceBuffer flush_;
  DeviceChromeTrace trace_;
  int processors_ = 0;
};

Result<std::unique_ptr<CudaMoeBench>> CudaMoeBench::Make(const BenchMoeOptions& options) {
  std::unique_ptr<CudaMoeBench> bench(new CudaMoeBench(options));
  RETURN_IF_ERROR(bench->Prepare());
  return bench;
}

Status CudaMoeBench::Prepare() {
  cudaDeviceProp device;
  RETURN_IF_ERROR(FromCuda(cudaGetDeviceProperties(&device, 0), "properties of device 0"));
  processors_ = device.multiProcessorCount;
  machine_ = {
      device.name,
      fmt::format("{} multiprocessors, {} MiB of L2", processors_, device.l2CacheSize >> 20), 0};
  RETURN_IF_ERROR(FromCuda(cudaStreamCreate(&stream_), "stream"));
  TRY(roofs_, moe_sm90::DeviceRoofs::Make(stream_));
  TRY(flush_, DeviceBuffer::Allocate(static_cast<uint64_t>(device.l2CacheSize) * 2,
                                     "what empties the L2 cache"));
  for (const Element element : {Element::kBf16, Element::kFp8})  // chooses algorithms, warms up
    RETURN_IF_ERROR(Ceilings(element).status());
  return {};
}

Result<bench::Ceilings> CudaMoeBench::Ceilings(Element element) const {
  constexpr int kSize = moe_sm90::kRoofSize;
  TRY(const double flops, roofs_->Product(element, kSize, kSize, kSize));
  TRY(const double bytes, roofs_->Read());
  return bench::Ceilings{flops, bytes};
}

Result<std::unique_ptr<DeviceMoe>> CudaMoeBench::MakeMoe(const CudaMoeCase& c,
                                                         const CudaContender& contender,
                                                         const DeviceWeights& weights,
                                                         Element element) const {
  const moe_sm90::MoeShape shape = c.DeviceShape(contender, element);
  if (contender.plain) return MakePlainMoe(shape, weights);
  return MakeFusedMoe(shape, weights, contender.options);
}

Status CudaMoeBench::RunOnce(DeviceMoe& moe, std::span<const moe_sm90::RankArgs> ranks) const {
  RETURN_IF_ERROR(moe.Run(ranks, stream_));
  const cudaError_t error = cudaStreamSynchronize(stream_);
  if (error == cudaSuccess) return {};
  const std::string fault = moe.FaultText();
  return Error(Code::kInternal, "{}: {}{}{}", moe.name(), cudaGetErrorString(error),
               fault.empty() ? "" : "; ", fault);
}

// Against epmoe on the same rows and routing: the worst row.
Result<double> CudaMoeBench::ErrorBesidePlain(CudaMoeCase& c, const Entry& entry,
                                              const DeviceWeights& weights, Element element) const {
  CudaContender plain = *entry.contender;
  plain.plain = true;
  plain.ranks = 1;
  TRY(const auto oracle, MakeMoe(c, plain, weights, element));
  RETURN_IF_ERROR(c.Poison());
  RETURN_IF_ERROR(RunOnce(*oracle, c.Args(plain)));
  TRY(const std::vector<float> expected, c.Output());
  RETURN_IF_ERROR(c.Poison());
  RETURN_IF_ERROR(RunOnce(*entry.moe, c.Args(*entry.contender)));
  TRY(const std::vector<float> actual, c.Output());
  return WorstRowError(actual, expected, c.hidden());
}

Result<double> CudaMoeBench::RouterError(const CudaMoeCase& c, const CudaRouter& router) const {
  RETURN_IF_ERROR(router.Run(c.x(), stream_));
  RETURN_IF_ERROR(FromCuda(cudaStreamSynchronize(stream_), "router"));
  TRY(const std::vector<float> x, c.Rows());
  Team team(1);
  Arena scratch;
  Exec exec{team, ThisMachine(), scratch};
  return router.Error(x, exec);
}

Result<Entry> CudaMoeBench::MakeEntry(const CudaMoeCase& c, const CudaContender& contender,
                                      const DeviceWeights& weights, const CudaRouter* router,
                                      Element element) const {
  Entry entry{.contender = &contender, .moe = nullptr, .replay = {}};
  const auto args = c.Args(contender);
  if (!contender.router) {
    TRY(entry.moe, MakeMoe(c, contender, weights, element));
    RETURN_IF_ERROR(RunOnce(*entry.moe, args));  // says what hangs, before there are graphs
  }
  TRY(entry.replay, CudaReplay::Capture(
                        [&]() -> Status {
                          if (router) RETURN_IF_ERROR(router->Run(c.x(), stream_));
                          return entry.moe ? entry.moe->Run(args, stream_) : Status();
                        },
                        stream_));
  return entry;
}

Result<std::vector<LayerFigures>> CudaMoeBench::Turns(CudaMoeCase& c,
                                                      const std::vector<Entry>& entries,
                                                      const CudaRouter* router, Element element,
                                                      int64_t tokens) const {
  Status failure;  // the first; after it nothing is enqueued
  const auto keep = [&](const Status& status) {
    if (failure.ok() && !status.ok()) failure = status;
    return failure.ok();
  };
  std::vector<std::vector<LayerWork>> work(entries.size());
  const auto once = [&](int index, int round) {
    const Entry& entry = entries[static_cast<size_t>(index)];
    auto& rounds = work[static_cast<size_t>(index)];
    rounds.resize(static_cast<size_t>(round) + 1);
    rounds.back() = WorkOf(c, entry, element, router);
    if (options_.cached) {
      rounds.back().bytes = 0;
      if (!keep(entry.replay.Launch(stream_))) return 1.0;  // rows and weights into the cache
    } else if (!keep(FromCuda(cudaMemsetAsync(flush_.data(), round, flush_.bytes(), stream_),
                              "emptying the L2 cache"))) {
      return 1.0;
    }
    const auto seconds =
        moe_sm90::TimeOnDevice(stream_, [&] { return entry.replay.Launch(stream_); });
    if (seconds.ok()) return *seconds;
    keep(Error(Code::kInternal, "{}: {}{}", entry.contender->name, seconds.status().message(),
               entry.FaultText()));
    return 1.0;
  };
  const auto prepare = [&] {
    std::set<Routing> drawn;
    for (const Entry& entry : entries)
      if (!options_.cached && failure.ok() && drawn.insert(entry.contender->routing).second)
        keep(c.Draw(entry.contender->routing));
  };
  const auto measure = [&] {
    if (!failure.ok()) return bench::Ceilings{1, 1};
    const auto ceilings = Ceilings(element);
    return keep(ceilings.status()) ? *ceilings : bench::Ceilings{1, 1};
  };
  std::vector<bench::SteadyRuns> runs = bench::RunBesideCeilings(
      {options_.runs, options_.seconds_max}, static_cast<int>(entries.size()),
      {.prepare = prepare, .measure = measure, .once = once, .clock = MonotonicSeconds});
  if (!failure.ok()) return failure;
  std::vector<LayerFigures> out;
  for (size_t i = 0; i < entries.size(); ++i) {
    LayerFigures f{
        .line = entries[i].contender->name, .tokens = tokens, .runs = std::move(runs[i])};
    for (const int round : f.runs.rounds) f.work.push_back(work[i][static_cast<size_t>(round)]);
    out.push_back(std::move(f));
    out.back().pace = bench::PairedRatio(out.back().runs, RooflineShares(out.back()),
                                         out.front().runs, RooflineShares(out.front()));
  }
  return out;
}

// Of three traced calls the last: by then code and tables are where they stay.
Result<StageBreakdown> CudaMoeBench::Trace(CudaMoeCase& c, const Entry& entry,
                                           const DeviceWeights& weights, Element element,
                                           const std::string& label) {
  constexpr int kCalls = 3;
  CudaContender traced = *entry.contender;
  traced.options.trace = true;
  TRY(const auto moe, MakeMoe(c, traced, weights, element));
  for (int i = 0; i < kCalls; ++i) {
    RETURN_IF_ERROR(FromCuda(cudaMemsetAsync(flush_.data(), i, flush_.bytes(), stream_),
                             "emptying the L2 cache"));
    RETURN_IF_ERROR(RunOnce(*moe, c.Args(traced)));
  }
  TRY(const moe_sm90::DeviceTrace trace, moe->Trace());
  trace_.Add(label, trace);
  if (trace.dropped > 0)
    fmt::print(stderr, "sluice bench moe: {}: {} spans had no room in the trace\n", label,
               trace.dropped);
  const int all_ctas = traced.options.ctas > 0 ? traced.options.ctas : processors_;
  const int ctas = all_ctas / traced.ranks * traced.ranks;
  StageBreakdown stages = BreakDownDevice(trace, ctas);
  stages.label = label;
  return stages;
}

Status CudaMoeBench::MeasureTokens(const MoeShape& shape, const DeviceWeights& weights,
                                   Element element, const std::vector<CudaContender>& contenders,
                                   int64_t tokens, LayerReport& report) {
  TRY(const auto c,
      CudaMoeCase::Make(shape, tokens, options_.seed + static_cast<uint64_t>(tokens)));
  std::unique_ptr<CudaRouter> router;
  if (options_.router) {
    TRY(router, CudaRouter::Make(shape, tokens, options_.seed));
  }
  std::vector<Entry> entries;
  for (const CudaContender& contender : contenders) {
    TRY(Entry entry, MakeEntry(*c, contender, weights, router.get(), element));
    entries.push_back(std::move(entry));
  }
  TRY(std::vector<LayerFigures> figures, Turns(*c, entries, router.get(), element, tokens));
  const bool traces = !options_.trace_path.empty() || !options_.plot_path.empty();
  for (size_t i = 0; i < entries.size(); ++i) {
    const CudaContender& contender = contenders[i];
    if (traces && entries[i].moe && !contender.plain && contender.options.shared_inside) {
      TRY(StageBreakdown stages, Trace(*c, entries[i], weights, element,
                                       fmt::format("{}, {}, {}, {} tokens", shape.name,
                                                   NameOf(element), contender.name, tokens)));
      const LayerSummary summary = Summarise(figures[i]);
      stages.work.arithmetic = summary.flop / summary.flops;
      stages.work.reading = summary.bytes / summary.bandwidth;
      figures[i].stages = std::move(stages);
    }
    if (entries[i].moe) {
      TRY(figures[i].error, ErrorBesidePlain(*c, entries[i], weights, element));
    } else {
      TRY(figures[i].error, RouterError(*c, *router));
    }
    report.Add(figures[i]);
  }
  return {};
}

std::string Title(const MoeShape& shape, const BenchMoeOptions& options, Element element) {
  const std::string share =
      options.ep_share == "1/1" ? "" : fmt::format(", a share of {}", options.ep_share);
  const std::string shared = shape.shared ? fmt::format(" and one shared of {}", shape.shared) : "";
  return fmt::format("{}{}: {} experts of {} x {}{}, {} a row; weights {}; errors against epmoe{}",
                     shape.name, share, shape.experts, shape.hidden, shape.intermediate, shared,
                     shape.top_k,
                     element == Element::kFp8 ? "fp8 (a scale an output), rows quantised to fp8"
                                              : "bf16, rows as they are",
                     options.cached ? "; calls follow each other" : "");
}

LayerReport::Settings SettingsOf(const MoeShape& shape, const BenchMoeOptions& options) {
  LayerReport::Settings settings = ShapeSettings(shape, options.ep_share);
  settings.push_back({"device", "cuda"});
  settings.push_back({"cached", options.cached ? "true" : "false"});
  return settings;
}

Status MeasureLayer(const BenchMoeOptions& options, const MoeShape& shape, Element element,
                    CudaMoeBench& bench, LayerReport& report) {
  TRY(const std::vector<CudaContender> contenders, ReadCudaContenders(options, shape));
  const moe_sm90::MoeShape all{.element = element,
                               .experts = static_cast<int>(shape.experts),
                               .top_k = static_cast<int>(shape.top_k),
                               .hidden = static_cast<int>(shape.hidden),
                               .intermediate = static_cast<int>(shape.intermediate),
                               .shared_intermediate = static_cast<int>(shape.shared),
                               .tokens_max = 1};
  RETURN_IF_ERROR(moe_sm90::CheckShape(all));
  TRY(const DeviceWeights weights, DeviceWeights::Random(all, options.seed));
  report.Begin(shape.name, NameOf(element), Title(shape, options, element),
               SettingsOf(shape, options),
               fmt::format("cuBLASLt {} {}^3", NameOf(element), moe_sm90::kRoofSize));
  Status status;
  for (const int64_t tokens : options.tokens) {
    status = bench.MeasureTokens(shape, weights, element, contenders, tokens, report);
    if (!status.ok()) break;
  }
  report.End();
  return status;
}

}  // namespace

Status BenchMoeOnCuda(const BenchMoeOptions& options) {
  RETURN_IF_ERROR(CheckCudaOptions(options));
  TRY(const std::vector<Element> formats, ReadCudaFormats(options));
  std::vector<MoeShape> shapes;
  for (const std::string& geometry : options.geometries) {
    TRY(const MoeShape whole, ReadMoeShape(geometry));
    TRY(MoeShape shape, ShareOf(whole, options.ep_share));
    RETURN_IF_ERROR(ReadCudaContenders(options, shape).status());  // before anything is measured
    shapes.push_back(std::move(shape));
  }
  if (const Status device = moe_sm90::CheckDevice(); !device.ok())
    return ParamError(device.code(), "device", "--device cuda: {}", device.message());
  TRY(const auto bench, CudaMoeBench::Make(options));
  LayerReport report(options.json, bench->machine());
  Status status;
  for (const MoeShape& shape : shapes)
    for (const Element element : formats)
      if (status.ok()) status = MeasureLayer(options, shape, element, *bench, report);
  report.Finish();  // also what was measured before an error: the GPU may not be there again
  RETURN_IF_ERROR(status);
  if (!options.trace_path.empty()) RETURN_IF_ERROR(bench->WriteTrace());
  if (options.plot_path.empty()) return {};
  std::vector<StageBreakdown> calls;
  for (const LayerFigures& f : report.figures())
    if (f.stages) calls.push_back(*f.stages);
  return PlotBreakdowns(fmt::format("{}, {}, {}", shapes.front().name, NameOf(formats.front()),
                                    bench->machine().processor),
                        calls, options.plot_path);
}

}  // namespace sluice
