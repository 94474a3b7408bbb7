#include <fmt/format.h>

#include <algorithm>

#include "base/machine.h"
#include "base/units.h"
#include "cli/bench/layer_bench.h"
#include "cli/bench/weights.h"
#include "kernels/linear/linear.h"

namespace sluice {
namespace {

// So many copies of the weights; 0: enough that none is still in a cache when its turn comes again.
Result<std::vector<PackedMatrix>> MakeWeights(WeightLayout layout, const LinearShape& shape,
                                              int copies, SplitMix64& random, Team& team) {
  constexpr uint64_t kColdBytes = 192 << 20;
  const RandomWeights source(layout, 1, shape.inputs, random);
  std::vector<PackedMatrix> weights;
  for (uint64_t bytes = 0; copies > 0 ? weights.size() < static_cast<size_t>(copies)
                                      : bytes < kColdBytes || weights.size() < 2;) {
    TRY(PackedMatrix weight, PackedMatrix::Allocate(layout, shape.outputs, shape.inputs));
    bytes += weight.bytes();
    team.ParallelFor(shape.outputs, kPanelOutputs,
                     [&](int64_t begin, int64_t end) { source.FillAlike(weight, begin, end); });
    weights.push_back(std::move(weight));
  }
  return weights;
}

// Against sums of doubles of the rows as the product reads them.
double Error(const std::vector<float>& x, const std::vector<float>& y, const PackedMatrix& weight,
             ActivationQuant activations, int64_t tokens) {
  const int64_t inputs = weight.inputs(), outputs = weight.outputs();
  std::vector<float> actual, expected;
  for (const int64_t row :
       SampleRows(tokens, 2.0 * static_cast<double>(inputs) * static_cast<double>(outputs))) {
    const std::vector<double> whole(x.begin() + row * inputs, x.begin() + (row + 1) * inputs);
    const std::vector<double> read = RowAsRead(activations, weight, whole.data());
    for (int64_t o = 0; o < outputs; ++o) {
      double sum = 0;
      for (int64_t i = 0; i < inputs; ++i)
        sum += read[static_cast<size_t>(i)] * weight.ExactAt(o, i);
      expected.push_back(RoundToBf16(static_cast<float>(sum)));
      actual.push_back(y[static_cast<size_t>(row * outputs + o)]);
    }
  }
  return WorstRowError(actual, expected, outputs);
}

Status MeasureShape(const BenchLinearOptions& options, const LinearShape& shape,
                    const BenchFormat& format, LayerBench& bench, LayerReport& report) {
  SplitMix64 random(options.seed);
  const int64_t tokens_max = *std::max_element(options.tokens.begin(), options.tokens.end());
  const auto area = static_cast<uint64_t>(shape.inputs * shape.outputs);
  const uint64_t rows =
      static_cast<uint64_t>(tokens_max) * static_cast<uint64_t>(shape.inputs + shape.outputs);
  const auto copies = static_cast<uint64_t>(std::max(options.copies, 2));
  RETURN_IF_ERROR(bench.CheckMemory((uint64_t{256} << 20) + 2 * copies * area + 4 * rows, ""));
  TRY(const auto weights, MakeWeights(format.layout, shape, options.copies, random, bench.team()));
  Arena scratch;
  Exec exec{bench.team(), bench.machine(), scratch};
  for (const int64_t tokens : options.tokens) {
    const std::vector<float> x = RandomRows(random, tokens * shape.inputs);
    std::vector<float> y(static_cast<size_t>(tokens * shape.outputs));
    size_t next = 0;
    const auto multiply = [&] {
      Linear({.x = {x.data(), {tokens, shape.inputs}},
              .weight = &weights[next++ % weights.size()],
              .rounding = Rounding::kBf16,
              .bf16_inputs = true,
              .activations = format.activations,
              .y = {y.data(), {tokens, shape.outputs}}},
             exec);
    };
    // As many products a run as read all copies once: a short one alone would be lost in the clock.
    const int calls = options.copies > 0 ? std::max(2, bench.CallsInARun(multiply))
                      : tokens > 16      ? 1
                                         : static_cast<int>(weights.size());
    const LayerBench::Steps steps{
        .line = shape.name,
        .prepare = [] {},
        .run =
            [&] {
              for (int i = 0; i < calls; ++i) multiply();
            },
        .work =
            [&] {
              return LinearWork(shape, tokens, options.copies > 0 ? 0 : weights.front().bytes());
            },
        .calls = calls};
    if (options.tune) {
      bench.Tune(
          fmt::format("{} {}x{}, {} tokens", shape.name, shape.outputs, shape.inputs, tokens),
          tokens, shape.inputs, shape.inputs, steps);
      continue;
    }
    LayerFigures f = bench.Measure(tokens, std::span(&steps, 1)).front();
    bench.Trace(steps, fmt::format("{}, {}, {} tokens", shape.name, format.name, tokens), f);
    f.error = Error(x, y, weights.front(), format.activations, tokens);
    report.Add(f);
  }
  return {};
}

Result<std::vector<LinearShape>> ReadShapes(const BenchLinearOptions& options) {
  std::vector<LinearShape> shapes;
  for (const std::string& geometry : options.geometries) {
    TRY(std::vector<LinearShape> of_model, ReadLinearShapes(geometry));
    for (LinearShape& shape : of_model) {
      if (options.geometries.size() > 1) shape.name = geometry + " " + shape.name;
      shapes.push_back(std::move(shape));
    }
  }
  for (const std::string& text : options.shapes) {
    TRY(LinearShape shape, ParseLinearShape(text));
    shapes.push_back(std::move(shape));
  }
  if (shapes.empty())
    return ParamError(Code::kMissingParameter, "shapes", "--geometry or --shapes is needed");
  return shapes;
}

Status Run(const BenchLinearOptions& options) {
  TRY(const std::vector<LinearShape> shapes, ReadShapes(options));
  TRY(const std::vector<BenchFormat> formats, ReadFormats(options));
  RETURN_IF_ERROR(LayerBench::CheckPlot(options, 1, formats.size()));
  TRY(const auto bench, LayerBench::Make(options));
  LayerReport report(options.json, ReportCpu(bench->machine(), bench->team().lanes()));
  std::string sizes;
  for (const LinearShape& shape : shapes)
    sizes += fmt::format("{}{}: {}x{}", sizes.empty() ? "" : ", ", shape.name, shape.outputs,
                         shape.inputs);
  for (const BenchFormat& format : formats) {
    RETURN_IF_ERROR(bench->Use(format));
    const std::string rows = format.activations == ActivationQuant::kInt8 ? "int8" : "none";
    if (!options.tune)
      report.Begin(
          "product", format.name,
          fmt::format(
              "products of weights {}, rows {}{}", LayoutName(format.layout),
              rows == "int8" ? "quantised to int8" : "as they are",
              options.copies > 0 ? fmt::format("; {} copies by turns", options.copies) : ""),
          {{"shapes", sizes},
           {"weights", LayoutName(format.layout)},
           {"rows", rows},
           {"copies", std::to_string(options.copies)}},
          bench->peak_name());
    for (const LinearShape& shape : shapes)
      RETURN_IF_ERROR(MeasureShape(options, shape, format, *bench, report));
    if (!options.tune) report.End();
  }
  if (options.tune) return bench->WriteTuned();
  report.Finish();
  return bench->WriteTraces(report,
                            fmt::format("products, {}, {}", formats.front().name, ProcessorName()));
}

}  // namespace

int RunBenchLinear(const BenchLinearOptions& options) {
  const Status status = Run(options);
  if (status.ok()) return 0;
  fmt::print(stderr, "sluice bench linear: error: {}\n", status.message());
  return 2;
}

}  // namespace sluice
