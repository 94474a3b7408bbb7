#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "cli/bench_weights.h"
#include "cli/layer_bench.h"
#include "kernels/linear/linear.h"

namespace sluice {
namespace {

// Enough copies of the weights that none is still in a cache when its turn comes again.
Result<std::vector<PackedMatrix>> MakeWeights(WeightLayout layout, const LinearShape& shape,
                                              SplitMix64& random, Team& team) {
  constexpr uint64_t kColdBytes = 192 << 20;
  const RandomWeights source(layout, 1, shape.inputs, random);
  std::vector<PackedMatrix> weights;
  for (uint64_t bytes = 0; bytes < kColdBytes || weights.size() < 2;) {
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
                    WeightLayout layout, ActivationQuant activations, LayerBench& bench,
                    std::vector<LayerFigures>& figures) {
  SplitMix64 random(options.seed);
  const int64_t tokens_max = *std::max_element(options.tokens.begin(), options.tokens.end());
  const auto area = static_cast<uint64_t>(shape.inputs * shape.outputs);
  const uint64_t rows =
      static_cast<uint64_t>(tokens_max) * static_cast<uint64_t>(shape.inputs + shape.outputs);
  RETURN_IF_ERROR(bench.CheckMemory((uint64_t{256} << 20) + 4 * area + 4 * rows, ""));
  TRY(const auto weights, MakeWeights(layout, shape, random, bench.team()));
  Arena scratch;
  Exec exec{bench.team(), bench.machine(), scratch};
  for (const int64_t tokens : options.tokens) {
    const std::vector<float> x = RandomRows(random, tokens * shape.inputs);
    std::vector<float> y(static_cast<size_t>(tokens * shape.outputs));
    // As many products a run as read all copies once: a short one alone would be lost in the clock.
    const int repeats = tokens > 16 ? 1 : static_cast<int>(weights.size());
    size_t next = 0;
    const auto run = [&] {
      for (int r = 0; r < repeats; ++r)
        Linear({.x = {x.data(), {tokens, shape.inputs}},
                .weight = &weights[next++ % weights.size()],
                .rounding = Rounding::kBf16,
                .bf16_inputs = true,
                .activations = activations,
                .y = {y.data(), {tokens, shape.outputs}}},
               exec);
    };
    const LayerBench::Steps steps{
        .prepare = [] {},
        .run = run,
        .work = [&] { return LinearWork(shape, tokens, weights.front().bytes()); }};
    if (options.tune) {
      bench.Tune(
          fmt::format("{} {}x{}, {} tokens", shape.name, shape.outputs, shape.inputs, tokens),
          tokens, shape.inputs, shape.inputs, steps);
      continue;
    }
    LayerFigures f = bench.Measure(shape.name, tokens, steps);
    for (double& seconds : f.runs.seconds) seconds /= repeats;
    f.error = Error(x, y, weights.front(), activations, tokens);
    figures.push_back(std::move(f));
  }
  return {};
}

Status Run(const BenchLinearOptions& options) {
  std::vector<LinearShape> shapes;
  if (!options.geometry.empty()) {
    TRY(shapes, ReadLinearShapes(options.geometry));
  }
  for (const std::string& text : options.shapes) {
    TRY(LinearShape shape, ParseLinearShape(text));
    shapes.push_back(std::move(shape));
  }
  if (shapes.empty())
    return ParamError(Code::kMissingParameter, "shapes", "--geometry or --shapes is needed");
  TRY(const WeightLayout layout, ParseFormat(options.format));
  TRY(const ActivationQuant activations, ParseActivations(options.activations));
  TRY(const auto bench, LayerBench::Make(options, layout, activations));
  std::vector<LayerFigures> figures;
  for (const LinearShape& shape : shapes)
    RETURN_IF_ERROR(MeasureShape(options, shape, layout, activations, *bench, figures));
  if (options.tune) return bench->WriteTuned();
  std::string sizes;
  for (const LinearShape& shape : shapes)
    sizes += fmt::format("{}{}: {}x{}", sizes.empty() ? "" : ", ", shape.name, shape.outputs,
                         shape.inputs);
  bench->Report(
      {{"shapes", sizes}, {"format", options.format}, {"activations", options.activations}},
      figures);
  return {};
}

}  // namespace

int RunBenchLinear(const BenchLinearOptions& options) {
  const Status status = Run(options);
  if (status.ok()) return 0;
  fmt::print(stderr, "sluice bench linear: error: {}\n", status.message());
  return 2;
}

}  // namespace sluice
