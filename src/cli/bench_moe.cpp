#include <fmt/format.h>

#include <algorithm>
#include <fstream>

#include "base/trace.h"
#include "base/units.h"
#include "cli/bench_weights.h"
#include "cli/layer_bench.h"
#include "kernels/moe/moe.h"

namespace sluice {
namespace {

// Weights of one layer; the experts hold the same values in memory of their own.
struct Layer {
  std::vector<ExpertWeights> experts, shared;

  const ExpertWeights* SharedOrNone() const { return shared.empty() ? nullptr : shared.data(); }
};

Result<std::vector<ExpertWeights>> MakeExperts(WeightLayout layout, int64_t count, int64_t hidden,
                                               int64_t intermediate, SplitMix64& random,
                                               Team& team) {
  TRY(auto experts, ExpertWeights::AllocateLayer(layout, count, hidden, intermediate));
  const RandomWeights source(layout, intermediate, hidden, random);
  team.ParallelFor(count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t e = begin; e < end; ++e) source.Fill(experts[static_cast<size_t>(e)]);
  });
  return experts;
}

// A back end, whole or without some of its parts.
struct Contender {
  std::string name;
  MoeBackend backend;
  MoeAblation ablation;
};

Result<std::vector<Contender>> ReadContenders(const BenchMoeOptions& options, bool has_shared) {
  std::string without;
  for (const std::string& part : options.ablate) without += (without.empty() ? "-" : ",") + part;
  std::vector<Contender> out;
  for (const std::string& name : options.backends) {
    TRY(const MoeBackend backend, ParseMoeBackend(name));
    TRY(const MoeAblation ablation, ParseMoeAblation(options.ablate, backend));
    if (!ablation.shared && !has_shared)
      return ParamError(Code::kInvalidArgument, "ablate",
                        "ablate has shared, and the layer has no shared expert");
    if (!ablation.overlap && options.threads == 1)
      return ParamError(Code::kInvalidArgument, "ablate",
                        "ablate has overlap, and a single thread waits for none");
    out.push_back({name + without, backend, ablation});
  }
  return out;
}

// One number of tokens: rows, routing and results, and a call on them.
class Case {
 public:
  Case(const MoeShape& shape, const Layer& layer, int64_t tokens, Routing routing,
       ActivationQuant activations, uint64_t seed)
      : shape_(shape),
        layer_(layer),
        tokens_(tokens),
        routing_(routing),
        activations_(activations),
        random_(seed),
        x_(RandomRows(random_, tokens * shape.hidden)),
        y_(x_.size()),
        weights_(static_cast<size_t>(tokens * shape.top_k), 1 / static_cast<float>(shape.top_k)) {}

  // Fresh routing, so that the few experts of a few tokens lie in no cache.
  void Draw() { ids_ = DrawExperts(routing_, shape_, tokens_, random_); }

  LayerWork Work() const {
    return MoeWork(shape_, ids_, layer_.experts.front().bytes(),
                   layer_.shared.empty() ? 0 : layer_.shared.front().bytes());
  }

  void Run(const Contender& contender, Exec& exec) {
    MoeArgs args = Args({x_.data(), {tokens_, shape_.hidden}}, ids_, weights_,
                        {y_.data(), {tokens_, shape_.hidden}});
    args.ablation = contender.ablation;
    Moe(args, contender.backend, exec);
  }

  // Of the last run's output.
  double Error(Exec& exec) const {
    const double row_flop = 6.0 * static_cast<double>(shape_.hidden) *
                            static_cast<double>(shape_.top_k * shape_.intermediate + shape_.shared);
    std::vector<float> x, actual, weights;
    std::vector<int32_t> ids;
    const auto take = [](const auto& from, int64_t row, int64_t width, auto& to) {
      to.insert(to.end(), from.begin() + row * width, from.begin() + (row + 1) * width);
    };
    const std::vector<int64_t> rows = SampleRows(tokens_, row_flop);
    for (const int64_t row : rows) {
      take(x_, row, shape_.hidden, x);
      take(y_, row, shape_.hidden, actual);
      take(ids_, row, shape_.top_k, ids);
      take(weights_, row, shape_.top_k, weights);
    }
    std::vector<float> expected(x.size());
    const auto count = static_cast<int64_t>(rows.size());
    MoeReference(Args({x.data(), {count, shape_.hidden}}, ids, weights,
                      {expected.data(), {count, shape_.hidden}}),
                 exec);
    return WorstRowError(actual, expected, shape_.hidden);
  }

 private:
  MoeArgs Args(View<const float, 2> x, const std::vector<int32_t>& ids,
               const std::vector<float>& weights, View<float, 2> y) const {
    return {.x = x,
            .ids = {ids.data(), {x.dim(0), shape_.top_k}},
            .weights = {weights.data(), {x.dim(0), shape_.top_k}},
            .experts = &layer_.experts,
            .shared = layer_.SharedOrNone(),
            .rounding = Rounding::kBf16,
            .bf16_inputs = true,
            .activations = activations_,
            .y = y};
  }

  const MoeShape& shape_;
  const Layer& layer_;
  int64_t tokens_;
  Routing routing_;
  ActivationQuant activations_;
  SplitMix64 random_;
  std::vector<float> x_, y_, weights_;
  std::vector<int32_t> ids_;
};

// Now, not when what was measured would be lost.
Status CheckWritable(const char* flag, const std::string& path) {
  if (path.empty() || std::ofstream(path, std::ios::app)) return {};
  return ParamError(Code::kInvalidArgument, flag, "--{}: {} cannot be written", flag, Quoted(path));
}

Status WriteTraces(const BenchMoeOptions& options, const MoeShape& shape,
                   const std::vector<LayerFigures>& figures) {
  if (!options.trace_path.empty()) RETURN_IF_ERROR(trace::WriteChromeTrace(options.trace_path));
  if (options.plot_path.empty()) return {};
  std::vector<StageBreakdown> calls;
  for (const LayerFigures& f : figures)
    if (f.stages) calls.push_back(*f.stages);
  return PlotBreakdowns(fmt::format("{}, {}, {}", shape.name, options.format, ProcessorName()),
                        calls, options.plot_path);
}

Status Run(const BenchMoeOptions& options) {
  RETURN_IF_ERROR(CheckWritable("trace", options.trace_path));
  RETURN_IF_ERROR(CheckWritable("plot", options.plot_path));
  TRY(const MoeShape whole, ReadMoeShape(options.geometry));
  TRY(const MoeShape shape, ShareOf(whole, options.ep_share));
  TRY(const std::vector<Contender> contenders, ReadContenders(options, shape.shared > 0));
  TRY(const WeightLayout layout, ParseFormat(options.format));
  TRY(const ActivationQuant activations, ParseActivations(options.activations));
  TRY(const Routing routing, ParseRouting(options.routing));
  TRY(const auto bench, LayerBench::Make(options, layout, activations));
  const int64_t tokens_max = *std::max_element(options.tokens.begin(), options.tokens.end());
  uint64_t scratch_bytes = 0;
  for (const Contender& c : contenders)
    scratch_bytes = std::max(
        scratch_bytes, MoeScratchBytes(c.ablation.residency ? c.backend : MoeBackend::kFused,
                                       tokens_max, shape.top_k, shape.hidden,
                                       std::max(shape.intermediate, shape.shared), shape.experts));
  const uint64_t rows_bytes = 8 * static_cast<uint64_t>(tokens_max * shape.hidden);
  RETURN_IF_ERROR(bench->CheckMemory(
      static_cast<uint64_t>(shape.experts) *
              ExpertWeights::Bytes(layout, shape.hidden, shape.intermediate) +
          (shape.shared ? ExpertWeights::Bytes(layout, shape.hidden, shape.shared) : 0) +
          scratch_bytes + rows_bytes,
      "; --ep-share 1/N takes a part of the experts"));
  SplitMix64 random(options.seed);
  Layer layer;
  TRY(layer.experts,
      MakeExperts(layout, shape.experts, shape.hidden, shape.intermediate, random, bench->team()));
  if (shape.shared) {
    TRY(layer.shared, MakeExperts(layout, 1, shape.hidden, shape.shared, random, bench->team()));
  }
  TRY(Buffer buffer, Buffer::Allocate(scratch_bytes, "bench scratch"));
  Arena scratch(std::move(buffer));
  Exec exec{bench->team(), bench->machine(), scratch};
  const bool traced = !options.trace_path.empty() || !options.plot_path.empty();
  trace::NameThread("lane 0");
  std::vector<LayerFigures> figures;
  for (const int64_t tokens : options.tokens) {
    Case c(shape, layer, tokens, routing, activations,
           options.seed + static_cast<uint64_t>(tokens));
    for (const Contender& contender : contenders) {
      const LayerBench::Steps steps{.prepare = [&] { c.Draw(); },
                                    .run = [&] { c.Run(contender, exec); },
                                    .work = [&] { return c.Work(); }};
      if (options.tune) {
        bench->Tune(fmt::format("{} {}, {} tokens", shape.name, contender.name, tokens),
                    tokens * shape.top_k / shape.experts,
                    std::min(shape.hidden, shape.intermediate),
                    std::max(shape.hidden, shape.intermediate), steps);
        continue;
      }
      figures.push_back(bench->Measure(contender.name, tokens, steps));
      if (traced) bench->Trace(steps, figures.back());
      c.Run(contender, exec);  // once more: the routing has been drawn anew
      figures.back().error = c.Error(exec);
    }
  }
  if (options.tune) return bench->WriteTuned();
  bench->Report({{"geometry", shape.name},
                 {"ep-share", options.ep_share},
                 {"hidden", std::to_string(shape.hidden)},
                 {"intermediate", std::to_string(shape.intermediate)},
                 {"experts", std::to_string(shape.experts)},
                 {"top-k", std::to_string(shape.top_k)},
                 {"shared", std::to_string(shape.shared)},
                 {"format", options.format},
                 {"activations", options.activations},
                 {"routing", options.routing}},
                figures);
  return WriteTraces(options, shape, figures);
}

}  // namespace

int RunBenchMoe(const BenchMoeOptions& options) {
  const Status status = Run(options);
  if (status.ok()) return 0;
  fmt::print(stderr, "sluice bench moe: error: {}\n", status.message());
  return 2;
}

}  // namespace sluice
