#include <algorithm>
#include <functional>
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

// Overwrites c of the experts outside the topk_group best groups, ties to the lower group.
// `scratch` has room for 2 * n_group floats.
void MaskGroups(const RouteArgs& args, float* c, int64_t experts, float* scratch) {
  const int64_t groups = args.n_group, size = experts / groups;
  float *scores = scratch, *sorted = scratch + groups;
  for (int64_t g = 0; g < groups; ++g) {
    scores[g] = GroupScore(c + g * size, size, args.bias != nullptr);
    if (!(scores[g] == scores[g])) scores[g] = kLowest;  // infinities of both signs in one group
  }
  std::copy_n(scores, groups, sorted);
  std::nth_element(sorted, sorted + args.topk_group - 1, sorted + groups, std::greater<>());
  const float least = sorted[args.topk_group - 1];
  int64_t ties =
      args.topk_group - std::count_if(scores, scores + groups, [&](float s) { return s > least; });
  for (int64_t g = 0; g < groups; ++g)
    if (!(scores[g] > least) && (scores[g] < least || ties-- <= 0))
      std::fill_n(c + g * size, size, args.bias ? kLowest : 0.0f);
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
