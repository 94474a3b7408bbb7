#include "cli/bench/layer_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "base/clock.h"
#include "base/machine.h"
#include "base/trace.h"
#include "base/units.h"
#include "bench/unpack.h"
#include "cli/bench/block_tuner.h"
#include "kernels/linear/integer/integer_kernel.h"
#include "kernels/linear/panel_product.h"
#include "tensor/dtype.h"

namespace sluice {
namespace {

// Runs shorter than this are made of several calls, with the caches emptied between them.
constexpr double kShortRunSeconds = 0.01;
constexpr int kShortCallsMax = 8;

// Of the instruction that the products are made of.
Result<const bench::PeakLoop*> PeakOf(const Machine& machine, const BenchFormat& format) {
  const auto column = static_cast<int>(format.layout.format);
  if (const IntegerKernel* integers = SelectIntegerKernel(machine, format.activations))
    return &bench::PeakOfIntegerKernel(integers->name);
  const PanelKernel& kernel = SelectPanelKernel(machine, true);
  if (!kernel.by_format[column])
    return ParamError(Code::kUnsupported, "format", "--format {} has no {} kernel", format.name,
                      kernel.name);
  return &bench::PeakOfKernel(kernel.name);
}

// Of the fastest decoder of the format, which fp8_block shares with fp8. Quantised rows meet the
// codes themselves.
double UnpackRate(const BenchFormat& format, const Machine& machine, int lanes,
                  const bench::RunLanes& run) {
  double fastest = 0;
  if (format.activations != ActivationQuant::kNone) return fastest;
  for (const bench::UnpackLoop& loop : bench::UnpackLoops()) {
    if (!machine.Has(loop.needs) || loop.format == std::string_view("bf16") ||
        !format.name.starts_with(loop.format))
      continue;
    std::vector<double> rates;
    rates.reserve(5);
    for (int i = 0; i < 5; ++i) rates.push_back(bench::MeasureUnpack(loop, lanes, run));
    fastest = std::max(fastest, bench::Median(rates));
  }
  return fastest;
}

// The mean of several calls' work.
LayerWork MeanOf(LayerWork sum, int calls) {
  return {sum.flop / calls, sum.bytes / calls, sum.active_experts / calls};
}

}  // namespace

Status CheckWritable(const char* flag, const std::string& path) {
  if (path.empty() || std::ofstream(path, std::ios::app)) return {};
  return ParamError(Code::kInvalidArgument, flag, "--{}: {} cannot be written", flag, Quoted(path));
}

Result<std::unique_ptr<LayerBench>> LayerBench::Make(const BenchLayerOptions& options) {
  RETURN_IF_ERROR(CheckWritable("tune-file", options.tune_path));
  RETURN_IF_ERROR(CheckWritable("trace", options.trace_path));
  RETURN_IF_ERROR(CheckWritable("plot", options.plot_path));
  TRY(const Machine machine, LimitedMachine(options.cpu_isa));
  const int threads = options.threads > 0 ? options.threads : UsableCores();
  return std::unique_ptr<LayerBench>(new LayerBench(options, machine, threads));
}

LayerBench::LayerBench(const BenchLayerOptions& options, Machine machine, int threads)
    : options_(options),
      machine_(machine),
      team_(threads, true),
      run_([this](const std::function<void(int)>& function) {
        team_.Run([&](int lane) { function(lane); });
      }) {
  trace::NameThread("lane 0");
}

Status LayerBench::Use(const BenchFormat& format) {
  TRY(peak_, PeakOf(machine_, format));
  format_ = format;
  unpack_rate_.reset();
  return {};
}

void LayerBench::Tune(const std::string& label, int64_t rows, int64_t inputs_min,
                      int64_t inputs_max, const Steps& steps) {
  // AMX takes 16 rows as a tile of one row block, products of quantised rows stream panels for few.
  const IntegerKernel* const integers = SelectIntegerKernel(machine_, format_.activations);
  const int64_t rows_min = integers ? 8 : 16;
  if (rows < rows_min) {
    fmt::print("{}: {} rows a product: nothing to tune\n", label, rows);
    return;
  }
  tuned_ +=
      TuneBlockSizes({.label = label,
                      .kernel = integers ? integers->name : SelectPanelKernel(machine_, true).name,
                      .format = format_.layout.format,
                      .activations = format_.activations,
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

int LayerBench::CallsInARun(const std::function<void()>& run) {
  constexpr double kSeconds = 2e-3;
  constexpr int kCallsMax = 10000;
  run();  // the first touch of everything
  const double begin = bench::Now(team_.lanes());
  run();
  const double seconds = bench::Now(team_.lanes()) - begin;
  return std::clamp(static_cast<int>(kSeconds / std::max(seconds, 1e-9)), 1, kCallsMax);
}

std::vector<LayerFigures> LayerBench::Measure(int64_t tokens, std::span<const Steps> contenders) {
  const int lanes = team_.lanes();
  const auto timed = [&](const Steps& steps) {
    const double begin = bench::Now(lanes);
    steps.run();
    return (bench::Now(lanes) - begin) / steps.calls;
  };
  std::vector<int> short_calls;
  for (const Steps& steps : contenders) {
    steps.prepare();
    const double seconds = timed(steps);  // and the first touch of scratch memory
    short_calls.push_back(steps.calls > 1 ? 1
                                          : std::clamp(static_cast<int>(kShortRunSeconds / seconds),
                                                       1, kShortCallsMax));
  }
  std::vector<std::vector<LayerWork>> work(contenders.size());  // by round
  const auto once = [&](int contender, int round) {
    const auto c = static_cast<size_t>(contender);
    const Steps& steps = contenders[c];
    double seconds = 0;
    LayerWork sum;
    for (int call = 0; call < short_calls[c]; ++call) {
      if (call > 0) {
        steps.prepare();
        memory_.Measure(lanes, run_);  // more bytes than any cache holds
      }
      seconds += timed(steps);
      const LayerWork one = steps.work();
      sum = {sum.flop + one.flop, sum.bytes + one.bytes, sum.active_experts + one.active_experts};
    }
    work[c].resize(static_cast<size_t>(round) + 1);
    work[c].back() = MeanOf(sum, short_calls[c]);
    return seconds / short_calls[c];
  };
  std::vector<bench::SteadyRuns> runs = bench::RunBesideCeilings(
      {options_.runs, options_.seconds_max}, static_cast<int>(contenders.size()),
      {.prepare =
           [&] {
             for (const Steps& steps : contenders) steps.prepare();
           },
       .measure =
           [&] {
             return bench::Ceilings{
                 bench::MeasurePeak(*peak_, bench::Feed::kRegisters, lanes, run_),
                 memory_.Measure(lanes, run_)};
           },
       .once = once,
       .clock = MonotonicSeconds});
  std::vector<LayerFigures> out;
  for (size_t c = 0; c < contenders.size(); ++c) {
    LayerFigures f{.line = contenders[c].line, .tokens = tokens, .runs = std::move(runs[c])};
    for (const int round : f.runs.rounds) f.work.push_back(work[c][static_cast<size_t>(round)]);
    out.push_back(std::move(f));
    out.back().pace = bench::PairedRatio(out.back().runs, RooflineShares(out.back()),
                                         out.front().runs, RooflineShares(out.front()));
  }
  return out;
}

void LayerBench::Trace(const Steps& steps, const std::string& label, LayerFigures& figures) {
  constexpr int kCalls = 3;
  if (options_.trace_path.empty() && options_.plot_path.empty()) return;
  const int lanes = team_.lanes();
  if (!unpack_rate_) unpack_rate_ = UnpackRate(format_, machine_, lanes, run_);
  labels_.push_back(label);
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
  const LayerSummary summary = Summarise(figures);
  StageBreakdown stages = BreakDown(trace::Events(), call.begin_ns, call.end_ns, lanes);
  stages.DivideBy(steps.calls);
  stages.label = fmt::format("{}, {} tokens", figures.line, figures.tokens);
  stages.work.arithmetic = call.work.flop / summary.flops;
  stages.work.reading = call.work.bytes / summary.bandwidth;
  if (*unpack_rate_ > 0)
    stages.work.unpacking =
        std::max(0.0, call.work.bytes - static_cast<double>(stages.unpacked_bytes)) / *unpack_rate_;
  figures.stages = std::move(stages);
}

Status LayerBench::CheckPlot(const BenchLayerOptions& options, size_t geometries, size_t formats) {
  if (options.plot_path.empty() || geometries * formats == 1) return {};
  return ParamError(Code::kInvalidArgument, "plot",
                    "--plot draws one layer, asked for are {} geometries in {} formats", geometries,
                    formats);
}

Status LayerBench::WriteTraces(const LayerReport& report, const std::string& title) const {
  if (!options_.trace_path.empty()) RETURN_IF_ERROR(trace::WriteChromeTrace(options_.trace_path));
  if (options_.plot_path.empty()) return {};
  std::vector<StageBreakdown> calls;
  for (const LayerFigures& f : report.figures())
    if (f.stages) calls.push_back(*f.stages);
  return PlotBreakdowns(title, calls, options_.plot_path);
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
