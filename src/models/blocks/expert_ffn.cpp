#include "models/blocks/expert_ffn.h"

#include <algorithm>

#include "base/trace.h"
#include "models/blocks/each_element.h"

namespace sluice {
namespace {

void TapRouting(const ExpertFfnCall& call, View<const int32_t, 2> ids, View<const float, 2> weights,
                View<const float, 2> scores) {
  std::vector<float> as_floats(static_cast<size_t>(ids.dim(0) * ids.dim(1)));
  for (size_t i = 0; i < as_floats.size(); ++i) as_floats[i] = static_cast<float>(ids.data()[i]);
  (*call.tap)("router_ids", call.layer, {as_floats.data(), {ids.dim(0), ids.dim(1)}});
  (*call.tap)("router_weights", call.layer, weights);
  (*call.tap)("router_scores", call.layer, scores);
}

void AddRouterBias(const ExpertFfnConfig& c, const std::string& prefix, ExpertFfnWeights* w,
                   WeightPlaces& places) {
  std::vector<std::string> spellings;
  for (const std::string& name : c.names.router_bias) spellings.push_back(prefix + name);
  places.Row({.name = spellings[0],
              .aliases = {spellings.begin() + 1, spellings.end()},
              .shape = {c.experts},
              .required = c.bias_required,
              .dummy = DummyInit::Zeros(),
              .place =
                  [=, experts = c.experts](const TensorData& data) {
                    w->bias.resize(static_cast<size_t>(experts));
                    data.ToFloat(0, experts, w->bias.data());
                    return Status();
                  }},
             static_cast<uint64_t>(c.experts) * sizeof(float));
}

}  // namespace

void AddDenseFfnRows(const ExpertFfnConfig& c, const std::string& prefix, ExpertFfnWeights* w,
                     WeightPlaces& places) {
  places.Expert(prefix, c.names.dense, c.hidden, c.dense_intermediate, &w->shared);
}

void AddExpertFfnRows(const ExpertFfnConfig& c, const std::string& prefix, ExpertFfnWeights* w,
                      WeightPlaces& places) {
  const ExpertFfnNames& names = c.names;
  places.FloatMatrix(prefix + names.router, c.experts, c.hidden, &w->gate);
  if (!names.router_bias.empty()) AddRouterBias(c, prefix, w, places);
  places.Experts(prefix + names.experts, names.expert, c.experts, c.hidden, c.intermediate,
                 &w->experts);
  if (c.shared_intermediate > 0)
    places.Expert(prefix + names.shared, names.dense, c.hidden, c.shared_intermediate, &w->shared);
}

void ExpertFfn(const ExpertFfnCall& call, Exec& exec) {
  const ExpertFfnConfig& c = call.config;
  const ExpertFfnWeights& w = call.weights;
  const int64_t rows = call.x.dim(0);
  const bool bf16 = c.rounding == Rounding::kBf16;
  if (call.dense) {
    const trace::Span span("ffn.dense");
    DenseFfn({.x = call.x,
              .weights = &w.shared,
              .activation = c.activation,
              .rounding = c.rounding,
              .bf16_inputs = bf16,
              .activations = c.activations,
              .y = call.delta},
             exec);
    return;
  }
  Arena::Scope scope(exec.scratch);
  View<int32_t, 2> ids = exec.scratch.Matrix<int32_t>(rows, c.top_k);
  View<float, 2> weights = exec.scratch.Matrix<float>(rows, c.top_k);
  View<float, 2> scores;
  if (call.tap) scores = exec.scratch.Matrix<float>(rows, c.experts);
  {
    const trace::Span span("ffn.route");
    Route({.x = call.x,
           .gate = {w.gate.data(), {c.experts, c.hidden}},
           .bias = w.bias.empty() ? nullptr : w.bias.data(),
           .softcap = c.router_softcap,
           .score = c.score,
           .n_group = c.n_group,
           .topk_group = c.topk_group,
           .renormalize = c.renormalize,
           .scaling = c.scaling,
           .ids = ids,
           .weights = weights,
           .scores = scores},
          exec);
  }
  if (call.tap) TapRouting(call, ids, weights, scores);
  const trace::Span span("ffn.moe");
  Moe({.x = call.x,
       .ids = ids,
       .weights = weights,
       .experts = &w.experts,
       .shared = c.shared_intermediate > 0 ? &w.shared : nullptr,
       .activation = c.activation,
       .rounding = c.rounding,
       .bf16_inputs = bf16,
       .activations = c.activations,
       .y = call.delta},
      c.backend, exec);
  if (c.output_divisor != 1)
    EachElement(
        call.delta, 4,
        [&](float y) {
          return c.rounding == Rounding::kBf16 ? RoundToBf16(y / c.output_divisor)
                                               : y / c.output_divisor;
        },
        exec);
}

uint64_t ExpertFfnScratchBytes(const ExpertFfnConfig& c, int64_t rows) {
  const int64_t routing = rows * (2 * c.top_k + c.experts) * 4 + 3 * 64;
  const int64_t width = std::max(c.intermediate, c.shared_intermediate);
  return std::max(static_cast<uint64_t>(routing) +
                      MoeScratchBytes(c.backend, rows, c.top_k, c.hidden, width, c.experts),
                  MoeScratchBytes(c.backend, rows, 1, c.hidden, c.dense_intermediate, 1));
}

}  // namespace sluice
