#include "cli/layer_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "base/machine.h"
#include "base/trace.h"
#include "base/units.h"
#include "bench/unpack.h"
#include "cli/block_tuner.h"
#include "kernels/linear/integer/integer_kernel.h"
#include "kernels/linear/panel_product.h"
#include "server/json/json_writer.h"
#include "tensor/dtype.h"

namespace sluice {
namespace {

// Of the instruction that the products are made of.
Result<const bench::PeakLoop*> PeakOf(const BenchLayerOptions& options, const Machine& machine,
                                      WeightLayout layout, ActivationQuant activations) {
  const auto format = static_cast<int>(layout.format);
  if (const IntegerKernel* integers = SelectIntegerKernel(machine, activations)) {
    if (!integers->by_format[format])
      return ParamError(Code::kInvalidArgument, "activations",
                        "--activations {} needs weights in int8 or int4, --format is {}",
                        options.activations, options.format);
    return &bench::PeakOfIntegerKernel(integers->name);
  }
  const PanelKernel& kernel = SelectPanelKernel(machine, true);
  if (!kernel.by_format[format])
    return ParamError(Code::kUnsupported, "format",
                      "--format {} has no {} kernel without --activations int8", options.format,
                      kernel.name);
  return &bench::PeakOfKernel(kernel.name);
}

struct Spread {
  double min, median, max;
};

Spread SpreadOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {values.front(), values[values.size() / 2], values.back()};
}

// Medians over the runs, each beside its own ceilings.
struct Summary {
  Spread seconds;
  double bytes, active, flop, flops, bandwidth;  // work of a run; ceilings per second
  double byte_share, flop_share, roofline_share;
};

Summary Summarise(const LayerFigures& f) {
  std::vector<double> bytes, active, flop, flops, bandwidth, byte_shares, flop_shares, shares;
  for (size_t i = 0; i < f.work.size(); ++i) {
    const LayerWork& work = f.work[i];
    const bench::Ceilings& ceilings = f.runs.ceilings[i];
    const double seconds = f.runs.seconds[i];
    bytes.push_back(work.bytes);
    active.push_back(static_cast<double>(work.active_experts));
    flop.push_back(work.flop);
    flops.push_back(ceilings.flops);
    bandwidth.push_back(ceilings.bytes);
    byte_shares.push_back(work.bytes / seconds / ceilings.bytes);
    flop_shares.push_back(work.flop / seconds / ceilings.flops);
    shares.push_back(RooflineShare(work, seconds, ceilings.flops, ceilings.bytes));
  }
  using bench::Median;
  return {SpreadOf(f.runs.seconds),
          Median(bytes),
          Median(active),
          Median(flop),
          Median(flops),
          Median(bandwidth),
          Median(byte_shares),
          Median(flop_shares),
          Median(shares)};
}

void PrintLine(const LayerFigures& f) {
  const Summary s = Summarise(f);
  fmt::print(
      "{:<16} {:>6} {:>9.3f} {:>9.3f} {:>9.3f} {:>7.0f} {:>9.2f} {:>7.1f} {:>5.1f}% {:>8.1f} "
      "{:>5.1f}% {:>6.1f}% {:>9.1e}{}\n",
      f.layer, f.tokens, s.seconds.min * 1e3, s.seconds.median * 1e3, s.seconds.max * 1e3, s.active,
      s.bytes * 1e-6, s.bytes / s.seconds.median * 1e-9, 100 * s.byte_share,
      s.flop / s.seconds.median * 1e-9, 100 * s.flop_share, 100 * s.roofline_share, f.error,
      !f.runs.steady    ? "  unsteady: ceilings moved"
      : f.runs.rejected ? fmt::format("  {} runs repeated", f.runs.rejected)
                        : "");
}

void WriteStages(JsonWriter& json, const StageBreakdown& s) {
  json.Key("stages").BeginObject().Key("seconds").Number(s.seconds);
  for (size_t i = 0; i < std::size(kStageNames); ++i) {
    json.Key(std::string(kStageNames[i])).BeginObject();
    json.Key("seconds").Number(s.stages[i].seconds);
    json.Key("beside_waiting").Number(s.stages[i].beside_waiting).EndObject();
  }
  json.Key("arithmetic_s").Number(s.work.arithmetic).Key("reading_s").Number(s.work.reading);
  json.Key("unpacking_in_registers_s").Number(s.work.unpacking);
  json.Key("hidden_s").Number(s.hidden_seconds()).EndObject();
}

void WriteLine(JsonWriter& json, const LayerFigures& f) {
  const Summary s = Summarise(f);
  json.BeginObject().Key("layer").String(f.layer).Key("tokens").Int(f.tokens);
  json.Key("seconds").BeginObject().Key("min").Number(s.seconds.min);
  json.Key("median").Number(s.seconds.median).Key("max").Number(s.seconds.max).EndObject();
  json.Key("runs").Uint(f.runs.seconds.size()).Key("rejected").Int(f.runs.rejected);
  json.Key("steady").Bool(f.runs.steady).Key("active_experts").Number(s.active);
  json.Key("weight_bytes").Number(s.bytes).Key("flop").Number(s.flop);
  json.Key("bytes_per_s").Number(s.bytes / s.seconds.median);
  json.Key("flop_per_s").Number(s.flop / s.seconds.median);
  json.Key("ceiling_bytes_per_s").Number(s.bandwidth).Key("ceiling_flop_per_s").Number(s.flops);
  json.Key("bandwidth_share").Number(s.byte_share).Key("peak_share").Number(s.flop_share);
  json.Key("roofline_share").Number(s.roofline_share).Key("error").Number(f.error);
  if (f.stages) WriteStages(json, *f.stages);
  json.EndObject();
}

void PrintStages(const std::vector<LayerFigures>& figures) {
  if (figures.empty() || !figures.front().stages) return;
  fmt::print(
      "\nstages of a traced call, ms (means of the lanes), and the work inside its products\n"
      "{:<16} {:>6} {:>9}",
      "layer", "tokens", "ms");
  for (const std::string_view name : kStageNames) fmt::print(" {:>10}", name);
  fmt::print(" | {:>10} {:>9} {:>9} {:>9}\n", "arithmetic", "reading", "unpacking", "hidden");
  for (const LayerFigures& f : figures) {
    if (!f.stages) continue;
    const StageBreakdown& s = *f.stages;
    fmt::print("{:<16} {:>6} {:>9.3f}", f.layer, f.tokens, s.seconds * 1e3);
    for (const StageTime& stage : s.stages) fmt::print(" {:>10.3f}", stage.seconds * 1e3);
    fmt::print(" | {:>10.3f} {:>9.3f} {:>9.3f} {:>9.3f}\n", s.work.arithmetic * 1e3,
               s.work.reading * 1e3, s.work.unpacking * 1e3, s.hidden_seconds() * 1e3);
  }
}

}  // namespace

Result<std::unique_ptr<LayerBench>> LayerBench::Make(const BenchLayerOptions& options,
                                                     WeightLayout layout,
                                                     ActivationQuant activations) {
  constexpr int64_t kTokensMax = 1 << 20;
  for (const int64_t tokens : options.tokens)
    if (tokens < 1 || tokens > kTokensMax)
      return ParamError(Code::kInvalidArgument, "tokens", "--tokens has {}, allowed are 1 to {}",
                        tokens, kTokensMax);
  TRY(const Machine machine, LimitedMachine(options.cpu_isa));
  TRY(const bench::PeakLoop* const peak, PeakOf(options, machine, layout, activations));
  const int threads = options.threads > 0 ? options.threads : UsableCores();
  return std::unique_ptr<LayerBench>(new LayerBench(
      options, machine, *peak, layout, activations != ActivationQuant::kNone, threads));
}

LayerBench::LayerBench(const BenchLayerOptions& options, Machine machine,
                       const bench::PeakLoop& peak, WeightLayout layout, bool quantised,
                       int threads)
    : options_(options),
      machine_(machine),
      team_(threads, true),
      peak_(peak),
      layout_(layout),
      quantised_(quantised) {}

void LayerBench::Tune(const std::string& label, int64_t rows, int64_t inputs_min,
                      int64_t inputs_max, const Steps& steps) {
  constexpr int64_t kRowsMin = 16;  // AMX takes as many as a tile of one row block
  if (rows < kRowsMin || quantised_) {
    fmt::print("{}: {} rows a product{}: nothing to tune\n", label, rows,
               quantised_ ? ", quantised" : "");
    return;
  }
  tuned_ += TuneBlockSizes({.label = label,
                            .kernel = SelectPanelKernel(machine_, true).name,
                            .format = layout_.format,
                            .lanes = team_.lanes(),
                            .rows = rows,
                            .inputs_min = inputs_min,
                            .inputs_max = inputs_max,
                            .prepare = steps.prepare,
                            .run = steps.run});
}

Status LayerBench::WriteTuned() const {
  if (options_.tune_path.empty()) return {};
  std::ofstream file(options_.tune_path, std::ios::app);
  file << tuned_;
  file.close();
  if (!file)
    return ParamError(Code::kInvalidArgument, "tune-file", "--tune-file: {} cannot be written",
                      Quoted(options_.tune_path));
  return {};
}

Status LayerBench::CheckMemory(uint64_t bytes, const char* advice) const {
  constexpr uint64_t kSpare = uint64_t{1} << 30;
  const uint64_t available = MemoryAvailableBytes();
  if (bytes + kSpare <= available) return {};
  return Error(Code::kOutOfMemory, "{} of weights and rows are needed, {} are available{}",
               FormatBytes(bytes), FormatBytes(available), advice);
}

LayerFigures LayerBench::Measure(std::string layer, int64_t tokens, const Steps& steps) {
  const int lanes = team_.lanes();
  const bench::RunLanes run = [this](const std::function<void(int)>& function) {
    team_.Run([&](int lane) { function(lane); });
  };
  std::vector<LayerWork> work;
  steps.prepare();
  steps.run();  // the first touch of scratch memory
  LayerFigures out{std::move(layer), tokens, {}, {}, 0};
  out.runs = bench::RunBesideCeilings(
      options_.runs,
      [&] {
        steps.prepare();
        return bench::Ceilings{bench::MeasurePeak(peak_, bench::Feed::kRegisters, lanes, run),
                               memory_.Measure(lanes, run)};
      },
      [&](int) {
        const double begin = bench::Now(lanes);
        steps.run();
        const double seconds = bench::Now(lanes) - begin;
        work.push_back(steps.work());
        return seconds;
      });
  for (const int i : out.runs.indices) out.work.push_back(work[static_cast<size_t>(i)]);
  return out;
}

// Of the fastest decoder of the format, which fp8_block shares with fp8.
double UnpackRate(std::string_view format, const Machine& machine, int lanes,
                  const bench::RunLanes& run) {
  double fastest = 0;
  for (const bench::UnpackLoop& loop : bench::UnpackLoops()) {
    if (!machine.Has(loop.needs) || loop.format == std::string_view("bf16") ||
        !format.starts_with(loop.format))
      continue;
    std::vector<double> rates;
    for (int i = 0; i < 5; ++i) rates.push_back(bench::MeasureUnpack(loop, lanes, run));
    fastest = std::max(fastest, bench::Median(rates));
  }
  return fastest;
}

void LayerBench::Trace(const Steps& steps, LayerFigures& figures) {
  constexpr int kCalls = 3;
  const int lanes = team_.lanes();
  if (!unpack_rate_)
    unpack_rate_ = UnpackRate(options_.format, machine_, lanes,
                              [this](const std::function<void(int)>& f) { team_.Run(f); });
  labels_.push_back(fmt::format("{}, {} tokens", figures.layer, figures.tokens));
  const auto wake = [this] { team_.Run([](int) {}); };  // ends and begins what waits record
  struct Call {
    uint64_t begin_ns, end_ns;
    LayerWork work;
  };
  std::vector<Call> calls;
  trace::Enable(trace::Level::kStages);
  for (int i = 0; i < kCalls; ++i) {
    steps.prepare();
    wake();
    const uint64_t begin = trace::internal::Now();
    {
      const trace::Stage call(labels_.back().c_str());
      steps.run();
    }
    calls.push_back({begin, trace::internal::Now(), steps.work()});
    wake();
  }
  trace::Disable();
  std::sort(calls.begin(), calls.end(), [](const Call& a, const Call& b) {
    return a.end_ns - a.begin_ns < b.end_ns - b.begin_ns;
  });
  const Call& call = calls[kCalls / 2];
  const Summary summary = Summarise(figures);
  StageBreakdown stages = BreakDown(trace::Events(), call.begin_ns, call.end_ns, lanes);
  stages.label = labels_.back();
  stages.work.arithmetic = call.work.flop / summary.flops;
  stages.work.reading = call.work.bytes / summary.bandwidth;
  if (*unpack_rate_ > 0)
    stages.work.unpacking =
        std::max(0.0, call.work.bytes - static_cast<double>(stages.unpacked_bytes)) / *unpack_rate_;
  figures.stages = std::move(stages);
}

void LayerBench::Report(const Settings& settings, const std::vector<LayerFigures>& figures) const {
  std::vector<double> flops, bandwidth;
  for (const LayerFigures& f : figures)
    for (const bench::Ceilings& c : f.runs.ceilings) {
      flops.push_back(c.flops);
      bandwidth.push_back(c.bytes);
    }
  if (options_.json) {
    JsonWriter json;
    json.BeginObject();
    for (const auto& [key, value] : settings) json.Key(key).String(value);
    json.Key("processor").String(ProcessorName()).Key("threads").Int(team_.lanes());
    json.Key("features").String(DescribeFeatures(machine_)).Key("peak").String(peak_.product);
    json.Key("layers").BeginArray();
    for (const LayerFigures& f : figures) WriteLine(json, f);
    fmt::print("{}\n", json.EndArray().EndObject().text());
    return;
  }
  fmt::print("{}, {} threads, {}\n", ProcessorName(), team_.lanes(), DescribeFeatures(machine_));
  for (const auto& [key, value] : settings) fmt::print("{} {}  ", key, value);
  fmt::print("\nceilings (medians): {:.1f} GFLOP/s {} {}, {:.1f} GB/s read\n\n",
             bench::Median(flops) * 1e-9, peak_.product, peak_.isa,
             bench::Median(bandwidth) * 1e-9);
  fmt::print("{:<16} {:>6} {:>9} {:>9} {:>9} {:>7} {:>9} {:>7} {:>6} {:>8} {:>6} {:>7} {:>9}\n",
             "layer", "tokens", "min ms", "median", "max", "active", "MB read", "GB/s", "share",
             "GFLOP/s", "share", "roof", "error");
  for (const LayerFigures& f : figures) PrintLine(f);
  PrintStages(figures);
}

std::vector<float> RandomRows(SplitMix64& random, int64_t count) {
  std::vector<float> rows(static_cast<size_t>(count));
  for (float& x : rows) x = RoundToBf16(static_cast<float>(random.Uniform()) * 2 - 1);
  return rows;
}

std::vector<int64_t> SampleRows(int64_t tokens, double row_flop) {
  constexpr double kFlopMax = 5e8;  // the reference does some 0.5 G a second
  constexpr int64_t kRowsMax = 4;
  const auto rows =
      std::clamp(static_cast<int64_t>(kFlopMax / row_flop), int64_t{1}, std::min(tokens, kRowsMax));
  std::vector<int64_t> out;
  for (int64_t r = 0; r < rows; ++r) out.push_back((2 * r + 1) * tokens / (2 * rows));
  return out;
}

double WorstRowError(const std::vector<float>& actual, const std::vector<float>& expected,
                     int64_t width) {
  double worst = 0;
  for (size_t begin = 0; begin < expected.size(); begin += static_cast<size_t>(width)) {
    double difference = 0, norm = 0;
    for (size_t i = begin; i < begin + static_cast<size_t>(width); ++i) {
      difference += (double{actual[i]} - expected[i]) * (double{actual[i]} - expected[i]);
      norm += double{expected[i]} * expected[i];
    }
    worst = std::max(worst, std::sqrt(difference / norm));
  }
  return worst;
}

}  // namespace sluice
