#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/sampling/sampling.h"

namespace sluice {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

std::vector<double> ShapedLogits(const SamplingRow& row, int64_t vocab) {
  const SamplingParams& p = *row.params;
  std::vector<double> l(row.logits, row.logits + vocab);
  if (row.history != nullptr)
    for (const auto& [id, generated] : row.history->entries()) {
      l[id] = l[id] > 0 ? l[id] / p.repetition_penalty : l[id] * p.repetition_penalty;
      l[id] -= p.frequency_penalty * generated + (generated > 0 ? p.presence_penalty : 0);
    }
  for (const auto& [id, bias] : p.logit_bias) l[id] += bias;
  for (const int32_t id : row.masked) l[id] = kMinusInfinity;
  return l;
}

double Sum(const std::vector<double>& x) { return std::accumulate(x.begin(), x.end(), 0.0); }

}  // namespace

ReferenceDistribution SamplingReference(const SamplingRow& row, int64_t vocab) {
  const SamplingParams& p = *row.params;
  for (int64_t i = 0; i < vocab; ++i)
    if (!std::isfinite(row.logits[i])) return {};
  const std::vector<double> l = ShapedLogits(row, vocab);
  const double max = *std::max_element(l.begin(), l.end());
  if (max == kMinusInfinity) return {};

  ReferenceDistribution out;
  const double temperature = p.temperature < 1e-6 ? 1 : p.temperature;
  std::vector<double> weight(vocab);
  for (int64_t i = 0; i < vocab; ++i) weight[i] = std::exp((l[i] - max) / temperature);
  const double log_sum = std::log(Sum(weight));
  for (int64_t i = 0; i < vocab; ++i) out.logprobs.push_back((l[i] - max) / temperature - log_sum);

  std::vector<int64_t> order(vocab);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return l[a] > l[b]; });
  const int64_t top_k = p.temperature < 1e-6 ? 1 : p.top_k > 0 ? std::min(p.top_k, vocab) : vocab;
  for (int64_t rank = top_k; rank < vocab; ++rank) weight[order[rank]] = 0;
  const double mass = p.top_p * Sum(weight);
  double before = 0;
  for (int64_t rank = 0; rank < vocab; ++rank) {
    const double own = weight[order[rank]];
    if (p.top_p < 1 && rank > 0 && before >= mass) weight[order[rank]] = 0;
    before += own;
  }
  for (double& w : weight)
    if (w < p.min_p) w = 0;  // the largest weight is 1
  const double total = Sum(weight);
  for (const double w : weight) out.probabilities.push_back(w / total);
  return out;
}

}  // namespace sluice
