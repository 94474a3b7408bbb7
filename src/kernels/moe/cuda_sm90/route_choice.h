// Choosing a token's experts by one warp, as plain C++ that the device runs and the host tests
// against ChooseExperts (kernels/moe/route_variants.h), whose bits it gives.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/moe/cuda_sm90/element.h"

namespace sluice::moe_sm90 {

/// Fields as in RouteArgs.
struct RouteChoice {
  int experts, top_k, n_group, topk_group;
  const float* bias;  // [experts] or nullptr
  bool renormalize;
  float scaling;
};

/// An expert and its value; idx -1: none.
struct RouteCandidate {
  float value = 0;
  int idx = -1;
};
/// The larger value, of equal ones the lower index; none loses.
SLUICE_HOST_DEVICE inline RouteCandidate BetterOf(RouteCandidate a, RouteCandidate b) {
  if (a.idx < 0) return b;
  if (b.idx < 0) return a;
  const bool first = a.value > b.value || (a.value == b.value && a.idx < b.idx);
  return first ? a : b;
}

/// Not-a-number sorts last.
SLUICE_HOST_DEVICE inline float Comparable(float x) { return x == x ? x : -INFINITY; }

SLUICE_HOST_DEVICE inline float RouteGroupScore(const float* c, int count, bool sum_of_two) {
  float first = -INFINITY, second = -INFINITY;
  for (int i = 0; i < count; ++i) {
    if (c[i] > first) {
      second = first;
      first = c[i];
    } else if (c[i] > second) {
      second = c[i];
    }
  }
  return Comparable(sum_of_two && count > 1 ? first + second : first);
}
/// Whether group g is among the `kept` best, ties to the lower group.
SLUICE_HOST_DEVICE inline bool GroupStays(const float* scores, int groups, int kept, int g) {
  int before = 0;
  for (int other = 0; other < groups; ++other)
    before += scores[other] > scores[g] || (scores[other] == scores[g] && other < g);
  return before < kept;
}

inline constexpr int kRouteLanes = 32;

/// ids and weights [top_k] from p [experts]. `c` [experts] and `group_scores` [n_group] are scratch
/// that all lanes see. A Warp has Each(f), which calls f(lane) for every lane and then lets all see
/// what each wrote, and Best(f), the best of f(lane) in every lane.
template <class Warp>
SLUICE_HOST_DEVICE void ChooseByWarp(const RouteChoice& args, const float* p, float* c,
                                     float* group_scores, int32_t* ids, float* weights,
                                     const Warp& warp) {
  warp.Each([&](int lane) {
    for (int e = lane; e < args.experts; e += kRouteLanes)
      c[e] = Comparable(args.bias ? p[e] + args.bias[e] : p[e]);
  });
  if (args.n_group > 0) {
    const int size = args.experts / args.n_group;
    warp.Each([&](int lane) {
      for (int g = lane; g < args.n_group; g += kRouteLanes)
        group_scores[g] = RouteGroupScore(c + g * size, size, args.bias != nullptr);
    });
    warp.Each([&](int lane) {
      for (int g = lane; g < args.n_group; g += kRouteLanes)
        if (!GroupStays(group_scores, args.n_group, args.topk_group, g))
          for (int e = g * size; e < (g + 1) * size; ++e) c[e] = args.bias ? -INFINITY : 0.0f;
    });
  }
  for (int j = 0; j < args.top_k; ++j) {
    const RouteCandidate best = warp.Best([&](int lane) {
      RouteCandidate own;
      for (int e = lane; e < args.experts; e += kRouteLanes)
        if (c[e] == c[e]) own = BetterOf(own, {c[e], e});  // not-a-number: chosen before
      return own;
    });
    warp.Each([&](int lane) {
      if (lane != best.idx % kRouteLanes) return;
      // Without a bias, an expert of a masked group, chosen where the others run out, weighs
      // nothing.
      const bool masked = !args.bias && args.n_group > 0 && best.value == 0;
      ids[j] = best.idx;
      weights[j] = masked ? 0 : p[best.idx];
      c[best.idx] = NAN;
    });
  }
  warp.Each([&](int lane) {
    if (lane != 0) return;
    float sum = 0;
    for (int j = 0; j < args.top_k; ++j) sum += weights[j];
    for (int j = 0; j < args.top_k; ++j) {
      if (args.renormalize) weights[j] /= sum;
      weights[j] *= args.scaling;
    }
  });
}

}  // namespace sluice::moe_sm90
