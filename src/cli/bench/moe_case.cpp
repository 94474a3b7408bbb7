#include "cli/bench/moe_case.h"

#include <algorithm>
#include <cmath>

#include "cli/bench/layer_bench.h"

namespace sluice {
namespace {

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

// "shared+prefetch" in parts; "none": no part.
std::vector<std::string> PartsOf(std::string_view text) {
  std::vector<std::string> parts;
  if (text == "none") return parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('+', begin), text.size());
    parts.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

Result<MoeAblation> ReadAblation(const std::string& text, MoeBackend backend,
                                 const MoeContender& contender, const MoeShape& shape,
                                 int threads) {
  TRY(const MoeAblation ablation, ParseMoeAblation(PartsOf(text), backend));
  if (!ablation.shared && (shape.shared == 0 || !contender.shared))
    return ParamError(Code::kInvalidArgument, "ablate",
                      "ablate has shared, and the layer has no shared expert");
  if (!ablation.overlap && threads == 1)
    return ParamError(Code::kInvalidArgument, "ablate",
                      "ablate has overlap, and a single thread waits for none");
  return ablation;
}

Result<bool> WithShared(std::string_view name) {
  if (name == "all") return true;
  if (name == "routed") return false;
  return ParamError(Code::kInvalidArgument, "experts", "--experts has {}, allowed are all, routed",
                    Quoted(name));
}

// Of one routing and choice of experts.
Status AddBackends(const BenchMoeOptions& options, const MoeShape& shape,
                   const MoeContender& common, std::vector<MoeContender>& out) {
  for (const std::string& parts : options.ablate) {
    std::vector<MoeContender> found;
    Status refused;
    for (const std::string& name : options.backends) {
      MoeContender contender = common;
      TRY(contender.backend, ParseMoeBackend(name));
      const auto ablation =
          ReadAblation(parts, contender.backend, contender, shape, options.threads);
      if (!ablation.ok()) {
        refused = ablation.status();
        continue;
      }
      contender.ablation = *ablation;
      contender.name = fmt::format("{}{}{}{}", name, parts == "none" ? "" : "-",
                                   parts == "none" ? "" : parts, common.name);
      found.push_back(std::move(contender));
    }
    if (found.empty()) return refused;
    out.insert(out.end(), found.begin(), found.end());
  }
  return {};
}

}  // namespace

Result<BenchMoeLayer> BenchMoeLayer::Make(const MoeShape& shape, WeightLayout layout, bool router,
                                          uint64_t seed, Team& team) {
  SplitMix64 random(seed);
  BenchMoeLayer layer{.shape = shape};
  TRY(layer.experts,
      MakeExperts(layout, shape.experts, shape.hidden, shape.intermediate, random, team));
  if (shape.shared) {
    TRY(layer.shared, MakeExperts(layout, 1, shape.hidden, shape.shared, random, team));
  }
  if (router) {
    layer.gate = RandomRows(random, shape.experts * shape.hidden);
    const float scale = 1 / std::sqrt(static_cast<float>(shape.hidden));
    for (float& weight : layer.gate) weight *= scale;
    layer.bias = RandomRows(random, shape.experts);
  }
  return layer;
}

uint64_t BenchMoeLayer::Bytes(const MoeShape& shape, WeightLayout layout) {
  return static_cast<uint64_t>(shape.experts) *
             ExpertWeights::Bytes(layout, shape.hidden, shape.intermediate) +
         (shape.shared ? ExpertWeights::Bytes(layout, shape.hidden, shape.shared) : 0);
}

Result<std::vector<MoeContender>> ReadMoeContenders(const BenchMoeOptions& options,
                                                    const MoeShape& shape) {
  std::vector<MoeContender> out;
  for (const std::string& routing_name : options.routings) {
    TRY(const Routing routing, ParseRouting(routing_name));
    for (const std::string& experts : options.experts) {
      TRY(const bool shared, WithShared(experts));
      if (!shared && shape.shared == 0 && options.experts.size() > 1) continue;  // the same
      MoeContender common{.shared = shared, .router = options.router, .routing = routing};
      if (options.experts.size() > 1) common.name += " " + experts;
      if (options.routings.size() > 1) common.name += " " + routing_name;
      RETURN_IF_ERROR(AddBackends(options, shape, common, out));
    }
  }
  if (options.router) {
    out.push_back(
        {.name = "router", .router = true, .experts = false, .routing = out.front().routing});
  }
  return out;
}

uint64_t ScratchBytes(const std::vector<MoeContender>& contenders, const MoeShape& shape,
                      int64_t tokens) {
  uint64_t bytes = 0;
  for (const MoeContender& c : contenders)
    bytes =
        std::max(bytes, MoeScratchBytes(c.ablation.residency ? c.backend : MoeBackend::kFused,
                                        tokens, shape.top_k, shape.hidden,
                                        std::max(shape.intermediate, shape.shared), shape.experts));
  return bytes;
}

BenchMoeCase::BenchMoeCase(const BenchMoeLayer& layer, int64_t tokens, ActivationQuant activations,
                           uint64_t seed)
    : layer_(layer),
      tokens_(tokens),
      activations_(activations),
      random_(seed),
      x_(RandomRows(random_, tokens * layer.shape.hidden)),
      y_(x_.size()),
      weights_(static_cast<size_t>(tokens * layer.shape.top_k),
               1 / static_cast<float>(layer.shape.top_k)),
      routed_ids_(weights_.size()),
      routed_weights_(weights_.size()) {}

void BenchMoeCase::Draw(Routing routing) {
  ids_[static_cast<size_t>(routing)] = DrawExperts(routing, layer_.shape, tokens_, random_);
}

const ExpertWeights* BenchMoeCase::Shared(const MoeContender& contender) const {
  return contender.shared && !layer_.shared.empty() ? layer_.shared.data() : nullptr;
}

void BenchMoeCase::Run(const MoeContender& contender, Exec& exec) {
  const View<const float, 2> x(x_.data(), {tokens_, layer_.shape.hidden});
  if (contender.router) Route(RouterArgs(x, routed_ids_, routed_weights_), exec);
  if (!contender.experts) return;
  Moe(Args(contender, x, ids_[static_cast<size_t>(contender.routing)], weights_,
           {y_.data(), {tokens_, layer_.shape.hidden}}),
      contender.backend, exec);
}

LayerWork BenchMoeCase::Work(const MoeContender& contender) const {
  const MoeShape& shape = layer_.shape;
  LayerWork work;
  if (contender.experts) {
    MoeShape counted = shape;
    if (!contender.shared) counted.shared = 0;
    const ExpertWeights* const shared = Shared(contender);
    work = MoeWork(counted, ids_[static_cast<size_t>(contender.routing)],
                   layer_.experts.front().bytes(), shared ? shared->bytes() : 0);
  }
  if (contender.router) {
    work.flop += 2 * static_cast<double>(tokens_) * static_cast<double>(layer_.gate.size());
    work.bytes += static_cast<double>(sizeof(float) * layer_.gate.size());
  }
  return work;
}

double BenchMoeCase::Error(const MoeContender& contender, Exec& exec) const {
  if (!contender.experts) return RouterError(exec);
  const MoeShape& shape = layer_.shape;
  const double row_flop = 6.0 * static_cast<double>(shape.hidden) *
                          static_cast<double>(shape.top_k * shape.intermediate + shape.shared);
  std::vector<float> x, actual, weights;
  std::vector<int32_t> ids;
  const auto take = [](const auto& from, int64_t row, int64_t width, auto& to) {
    to.insert(to.end(), from.begin() + row * width, from.begin() + (row + 1) * width);
  };
  const std::vector<int64_t> rows = SampleRows(tokens_, row_flop);
  for (const int64_t row : rows) {
    take(x_, row, shape.hidden, x);
    take(y_, row, shape.hidden, actual);
    take(ids_[static_cast<size_t>(contender.routing)], row, shape.top_k, ids);
    take(weights_, row, shape.top_k, weights);
  }
  std::vector<float> expected(x.size());
  const auto count = static_cast<int64_t>(rows.size());
  MoeReference(Args(contender, {x.data(), {count, shape.hidden}}, ids, weights,
                    {expected.data(), {count, shape.hidden}}),
               exec);
  return WorstRowError(actual, expected, shape.hidden);
}

MoeArgs BenchMoeCase::Args(const MoeContender& contender, View<const float, 2> x,
                           const std::vector<int32_t>& ids, const std::vector<float>& weights,
                           View<float, 2> y) const {
  return {.x = x,
          .ids = {ids.data(), {x.dim(0), layer_.shape.top_k}},
          .weights = {weights.data(), {x.dim(0), layer_.shape.top_k}},
          .experts = &layer_.experts,
          .shared = Shared(contender),
          .activation = layer_.shape.activation,
          .rounding = Rounding::kBf16,
          .bf16_inputs = true,
          .activations = activations_,
          .ablation = contender.ablation,
          .y = y};
}

RouteArgs BenchMoeCase::RouterArgs(View<const float, 2> x, std::vector<int32_t>& ids,
                                   std::vector<float>& weights) const {
  const MoeShape& shape = layer_.shape;
  const bool groups = shape.n_group > 0;
  return {.x = x,
          .gate = {layer_.gate.data(), {shape.experts, shape.hidden}},
          .bias = groups ? layer_.bias.data() : nullptr,
          .score = groups ? ScoreFunction::kSigmoid : ScoreFunction::kSoftmax,
          .n_group = shape.n_group,
          .topk_group = shape.topk_group,
          .ids = {ids.data(), {x.dim(0), shape.top_k}},
          .weights = {weights.data(), {x.dim(0), shape.top_k}},
          .scores = {}};
}

// Of the weights that the last run gave to sampled rows.
double BenchMoeCase::RouterError(Exec& exec) const {
  const int64_t hidden = layer_.shape.hidden, top_k = layer_.shape.top_k;
  std::vector<float> actual, expected, weights(static_cast<size_t>(top_k));
  std::vector<int32_t> ids(weights.size());
  for (const int64_t row : SampleRows(tokens_, 2.0 * static_cast<double>(layer_.gate.size()))) {
    const auto begin = routed_weights_.begin() + row * top_k;
    actual.insert(actual.end(), begin, begin + top_k);
    RouteVariants().back().run(RouterArgs({x_.data() + row * hidden, {1, hidden}}, ids, weights),
                               exec);
    expected.insert(expected.end(), weights.begin(), weights.end());
  }
  return WorstRowError(actual, expected, top_k);
}

}  // namespace sluice
