#include <algorithm>
#include <limits>

#include "kernels/moe/route_variants.h"

namespace sluice {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

// The `count` largest values' indices in descending order, ties to the lower index. Insertion into
// a short list: nearly every value fails the first comparison.
void TopIndices(const float* values, int64_t values_count, int32_t* top, int64_t count) {
  int64_t held = 0;
  for (int64_t i = 0; i < values_count; ++i) {
    if (held == count && !(values[i] > values[top[held - 1]])) continue;
    int64_t at = held < count ? held++ : count - 1;
    for (; at > 0 && values[i] > values[top[at - 1]]; --at) top[at] = top[at - 1];
    top[at] = static_cast<int32_t>(i);
  }
}

float GroupScore(const float* c, int64_t count, bool sum_of_two) {
  float first = kLowest, second = kLowest;
  for (int64_t i = 0; i < count; ++i) {
    if (c[i] > first) {
      second = first;
      first = c[i];
    } else if (c[i] > second) {
      second = c[i];
    }
  }
  return sum_of_two && count > 1 ? first + second : first;
}

// Overwrites c of the experts outside the best topk_group groups.
void MaskGroups(const RouteArgs& args, float* c, int64_t experts, float* group_scores) {
  const int64_t size = experts / args.n_group;
  for (int64_t g = 0; g < args.n_group; ++g)
    group_scores[g] = GroupScore(c + g * size, size, args.bias != nullptr);
  for (int64_t g = 0; g < args.n_group; ++g) {
    int64_t better = 0;
    for (int64_t other = 0; other < args.n_group; ++other)
      better += group_scores[other] > group_scores[g] ||
                (group_scores[other] == group_scores[g] && other < g);
    if (better >= args.topk_group) std::fill_n(c + g * size, size, args.bias ? kLowest : 0.0f);
  }
}

}  // namespace

void ChooseExperts(const RouteArgs& args, int64_t t, const float* p, float* scratch) {
  const int64_t experts = args.gate.dim(0), top_k = args.ids.dim(1);
  float* c = scratch;
  // NaN sorts last, so that every comparison has an answer and ids stay distinct.
  for (int64_t e = 0; e < experts; ++e) {
    c[e] = args.bias ? p[e] + args.bias[e] : p[e];
    if (!(c[e] == c[e])) c[e] = kLowest;
  }
  if (args.n_group > 0) MaskGroups(args, c, experts, scratch + experts);
  int32_t* ids = args.ids.row(t);
  float* weights = args.weights.row(t);
  TopIndices(c, experts, ids, top_k);
  float sum = 0;
  for (int64_t j = 0; j < top_k; ++j) {
    // Without a bias the published code takes the weight after masking: a masked expert, chosen
    // only where the kept groups run out, weighs nothing.
    const bool masked = !args.bias && args.n_group > 0 && c[ids[j]] == 0;
    weights[j] = masked ? 0 : p[ids[j]];
    sum += weights[j];
  }
  for (int64_t j = 0; j < top_k; ++j) {
    if (args.renormalize) weights[j] /= sum;
    weights[j] *= args.scaling;
  }
  if (args.scores.data()) std::copy_n(p, experts, args.scores.row(t));
}

}  // namespace sluice
