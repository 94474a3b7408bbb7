#include <immintrin.h>

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <limits>

#include "kernels/moe/route_variants.h"

namespace sluice {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

// Few enough that comparing all with all costs less than mispredicted jumps.
constexpr int64_t kRankedMax = 32;

// The `count` largest values' indices in descending order, ties to the lower index; at most
// kRankedMax values, none of them NaN. A value's place is the number of values before it.
void RankedIndices(const float* values, int64_t values_count, int32_t* top, int64_t count) {
  constexpr int64_t kLanes = 8;
  static_assert(kRankedMax % kLanes == 0);
  alignas(32) std::array<float, kRankedMax> all;
  alignas(32) std::array<int32_t, kRankedMax> places;
  const int64_t vectors = (values_count + kLanes - 1) / kLanes;
  std::copy_n(values, values_count, all.data());
  std::fill(all.data() + values_count, all.data() + vectors * kLanes, kLowest);
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  for (int64_t v = 0; v < vectors; ++v) {
    const __m256 mine = _mm256_load_ps(all.data() + v * kLanes);
    const __m256i index = _mm256_add_epi32(lane, _mm256_set1_epi32(static_cast<int>(v * kLanes)));
    __m256i place = _mm256_setzero_si256();
    for (int64_t i = 0; i < values_count; ++i) {
      const __m256 other = _mm256_set1_ps(all[i]);
      const __m256i lower = _mm256_cmpgt_epi32(index, _mm256_set1_epi32(static_cast<int>(i)));
      const __m256 before =
          _mm256_blendv_ps(_mm256_cmp_ps(other, mine, _CMP_GT_OQ),
                           _mm256_cmp_ps(other, mine, _CMP_GE_OQ), _mm256_castsi256_ps(lower));
      place = _mm256_sub_epi32(place, _mm256_castps_si256(before));
    }
    _mm256_store_si256(reinterpret_cast<__m256i*>(places.data() + v * kLanes), place);
  }
  std::array<int32_t, kRankedMax> sorted;
  for (int64_t i = 0; i < values_count; ++i) sorted[places[i]] = static_cast<int32_t>(i);
  std::copy_n(sorted.data(), count, top);
}

// The same of any number: insertion into a short list, where nearly every value fails the first
// comparison.
void TopIndices(const float* values, int64_t values_count, int32_t* top, int64_t count) {
  if (values_count <= kRankedMax) return RankedIndices(values, values_count, top, count);
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
  for (int64_t i = 0; i < count; ++i) {  // without jumps
    second = std::max(second, std::min(first, c[i]));
    first = std::max(first, c[i]);
  }
  return sum_of_two && count > 1 ? first + second : first;
}

// Overwrites c of the experts outside the topk_group best of few groups, `size` experts each.
void MaskRanked(const RouteArgs& args, const float* scores, float* c, int64_t size) {
  std::array<int32_t, kRankedMax> best;
  RankedIndices(scores, args.n_group, best.data(), args.topk_group);
  std::array<uint32_t, kRankedMax> keep = {};  // all bits or none
  for (int64_t i = 0; i < args.topk_group; ++i) keep[best[i]] = ~0u;
  const auto masked = std::bit_cast<uint32_t>(args.bias ? kLowest : 0.0f);
  for (int64_t g = 0; g < args.n_group; ++g)
    for (float* at = c + g * size; at < c + (g + 1) * size; ++at)
      *at = std::bit_cast<float>((std::bit_cast<uint32_t>(*at) & keep[g]) | (masked & ~keep[g]));
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
  if (groups <= kRankedMax) return MaskRanked(args, scores, c, size);
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
