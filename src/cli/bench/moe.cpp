#include <fmt/format.h>

#include <algorithm>

#include "cli/bench/layer_bench.h"
#include "cli/bench/moe_case.h"
#include "cli/bench/moe_cuda.h"

namespace sluice {
namespace {

Status CheckOptions(const BenchMoeOptions& options) {
  if (options.device != "cpu" && options.device != "cuda")
    return ParamError(Code::kInvalidArgument, "device", "--device is {}, allowed are cpu, cuda",
                      Quoted(options.device));
  if (options.device == "cpu" && options.ranks != std::vector<int>{1})
    return ParamError(Code::kInvalidArgument, "ranks",
                      "--ranks is {}, and --device cpu allows only 1",
                      fmt::join(options.ranks, ","));
  if (options.router && options.ep_share != "1/1")
    return ParamError(Code::kInvalidArgument, "router",
                      "--router chooses among all experts, --ep-share is {}", options.ep_share);
  RETURN_IF_ERROR(
      LayerBench::CheckPlot(options, options.geometries.size(), options.formats.size()));
  RETURN_IF_ERROR(CheckWritable("trace", options.trace_path));
  return CheckWritable("plot", options.plot_path);
}

std::string Title(const MoeShape& shape, const BenchMoeOptions& options,
                  const BenchFormat& format) {
  const std::string share =
      options.ep_share == "1/1" ? "" : fmt::format(", a share of {}", options.ep_share);
  const std::string shared = shape.shared ? fmt::format(" and one shared of {}", shape.shared) : "";
  return fmt::format(
      "{}{}: {} experts of {} x {}{}, {} a row, chosen {}{}; weights {}, rows {}{}", shape.name,
      share, shape.experts, shape.hidden, shape.intermediate, shared, shape.top_k,
      fmt::join(options.routings, ", "),
      options.experts == std::vector<std::string>{"routed"} ? ", without the shared one" : "",
      LayoutName(format.layout),
      format.activations == ActivationQuant::kInt8 ? "quantised to int8" : "as they are",
      options.cached ? "; calls follow each other" : "");
}

LayerReport::Settings SettingsOf(const MoeShape& shape, const BenchMoeOptions& options,
                                 const BenchFormat& format) {
  LayerReport::Settings settings = ShapeSettings(shape, options.ep_share);
  settings.push_back({"weights", LayoutName(format.layout)});
  settings.push_back({"rows", format.activations == ActivationQuant::kInt8 ? "int8" : "none"});
  settings.push_back({"routing", fmt::format("{}", fmt::join(options.routings, ","))});
  settings.push_back({"measured", fmt::format("{}", fmt::join(options.experts, ","))});
  settings.push_back({"seed", std::to_string(options.seed)});
  settings.push_back({"cached", options.cached ? "true" : "false"});
  return settings;
}

void TuneContenders(const MoeShape& shape, int64_t tokens,
                    const std::vector<LayerBench::Steps>& contenders, LayerBench& bench) {
  for (const LayerBench::Steps& steps : contenders)
    bench.Tune(fmt::format("{} {}, {} tokens", shape.name, steps.line, tokens),
               tokens * shape.top_k / shape.experts, std::min(shape.hidden, shape.intermediate),
               std::max(shape.hidden, shape.intermediate), steps);
}

// Every contender on so many tokens.
void MeasureTokens(const BenchMoeOptions& options, const std::vector<MoeContender>& contenders,
                   const BenchMoeLayer& layer, const BenchFormat& format, int64_t tokens,
                   LayerBench& bench, LayerReport& report, Exec& exec) {
  BenchMoeCase c(layer, tokens, format.activations, options.seed + static_cast<uint64_t>(tokens));
  for (int routing = 0; routing < kRoutings; ++routing) c.Draw(static_cast<Routing>(routing));
  std::vector<LayerBench::Steps> all;
  for (const MoeContender& contender : contenders) {
    const int calls =
        options.cached ? std::max(2, bench.CallsInARun([&] { c.Run(contender, exec); })) : 1;
    all.push_back({.line = contender.name,
                   .prepare =
                       [&] {
                         if (!options.cached) c.Draw(contender.routing);
                       },
                   .run =
                       [&, calls] {
                         for (int i = 0; i < calls; ++i) c.Run(contender, exec);
                       },
                   .work =
                       [&] {
                         LayerWork work = c.Work(contender);
                         if (options.cached) work.bytes = 0;
                         return work;
                       },
                   .calls = calls});
  }
  if (options.tune) return TuneContenders(layer.shape, tokens, all, bench);
  std::vector<LayerFigures> figures = bench.Measure(tokens, all);
  for (size_t i = 0; i < figures.size(); ++i) {
    bench.Trace(all[i],
                fmt::format("{}, {}, {}, {} tokens", layer.shape.name, format.name,
                            contenders[i].name, tokens),
                figures[i]);
    c.Run(contenders[i], exec);  // once more: the routing has been drawn anew
    figures[i].error = c.Error(contenders[i], exec);
    report.Add(figures[i]);
  }
}

Status MeasureLayer(const BenchMoeOptions& options, const MoeShape& shape,
                    const BenchFormat& format, LayerBench& bench, LayerReport& report) {
  RETURN_IF_ERROR(bench.Use(format));
  TRY(const std::vector<MoeContender> contenders, ReadMoeContenders(options, shape));
  const int64_t tokens_max = *std::max_element(options.tokens.begin(), options.tokens.end());
  const uint64_t scratch_bytes = ScratchBytes(contenders, shape, tokens_max);
  const uint64_t rows_bytes = 8 * static_cast<uint64_t>(tokens_max * shape.hidden);
  RETURN_IF_ERROR(
      bench.CheckMemory(BenchMoeLayer::Bytes(shape, format.layout) + scratch_bytes + rows_bytes,
                        "; --ep-share 1/N takes a part of the experts"));
  TRY(const BenchMoeLayer layer,
      BenchMoeLayer::Make(shape, format.layout, options.router, options.seed, bench.team()));
  TRY(Buffer buffer, Buffer::Allocate(scratch_bytes, "bench scratch"));
  Arena scratch(std::move(buffer));
  Exec exec{bench.team(), bench.machine(), scratch};
  if (!options.tune)
    report.Begin(shape.name, format.name, Title(shape, options, format),
                 SettingsOf(shape, options, format), bench.peak_name());
  for (const int64_t tokens : options.tokens)
    MeasureTokens(options, contenders, layer, format, tokens, bench, report, exec);
  if (!options.tune) report.End();
  return {};
}

// Only where rows are quantised can a layer do without quantising them once.
Status CheckCodes(const std::vector<MoeContender>& contenders,
                  const std::vector<BenchFormat>& formats) {
  const bool without =
      std::ranges::any_of(contenders, [](const auto& c) { return !c.ablation.codes; });
  const bool quantises = std::ranges::any_of(
      formats, [](const auto& f) { return f.activations != ActivationQuant::kNone; });
  if (!without || quantises) return {};
  return ParamError(Code::kInvalidArgument, "ablate",
                    "ablate has codes, and no format here has rows that are quantised");
}

Status Run(const BenchMoeOptions& options) {
  RETURN_IF_ERROR(CheckOptions(options));
  if (options.device == "cuda") return BenchMoeOnCuda(options);
  TRY(const std::vector<BenchFormat> formats, ReadFormats(options));
  RETURN_IF_ERROR(LayerBench::CheckPlot(options, options.geometries.size(), formats.size()));
  std::vector<MoeShape> shapes;
  for (const std::string& geometry : options.geometries) {
    TRY(const MoeShape whole, ReadMoeShape(geometry));
    TRY(MoeShape shape, ShareOf(whole, options.ep_share));
    // Before anything is measured.
    TRY(const auto contenders, ReadMoeContenders(options, shape));
    RETURN_IF_ERROR(CheckCodes(contenders, formats));
    shapes.push_back(std::move(shape));
  }
  TRY(const auto bench, LayerBench::Make(options));
  LayerReport report(options.json, ReportCpu(bench->machine(), bench->team().lanes()));
  for (const MoeShape& shape : shapes)
    for (const BenchFormat& format : formats)
      RETURN_IF_ERROR(MeasureLayer(options, shape, format, *bench, report));
  if (options.tune) return bench->WriteTuned();
  report.Finish();
  return bench->WriteTraces(report, fmt::format("{}, {}, {}", shapes.front().name,
                                                formats.front().name, ProcessorName()));
}

}  // namespace

int RunBenchMoe(const BenchMoeOptions& options) {
  const Status status = Run(options);
  if (status.ok()) return 0;
  fmt::print(stderr, "sluice bench moe: error: {}\n", status.message());
  return 2;
}

}  // namespace sluice
