#include "kernels/moe/expert_rows.h"

#include <algorithm>

#include "base/trace.h"

namespace sluice {

ExpertRows SortByExpert(const MoeArgs& args, Arena& scratch) {
  const trace::Stage stage("sort");
  const int64_t tokens = args.ids.dim(0), top_k = args.ids.dim(1);
  const auto experts = static_cast<int64_t>(args.experts->size());
  auto* row_tokens = scratch.Allocate<int32_t>(tokens * top_k);
  auto* weights = scratch.Allocate<float>(tokens * top_k);
  auto* begins = scratch.Allocate<int32_t>(experts + 1);
  // begins[e + 1] counts expert e's rows, then runs ahead from its first row while rows are placed.
  std::fill_n(begins, experts + 1, 0);
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t j = 0; j < top_k; ++j) {
      CHECK(args.ids(t, j) >= 0 && args.ids(t, j) < experts);
      ++begins[args.ids(t, j) + 1];
    }
  int32_t begin = 0;
  for (int64_t e = 0; e < experts; ++e) {
    const int32_t count = begins[e + 1];
    begins[e + 1] = begin;
    begin += count;
  }
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t j = 0; j < top_k; ++j) {
      const int32_t row = begins[args.ids(t, j) + 1]++;
      row_tokens[row] = static_cast<int32_t>(t);
      weights[row] = args.weights(t, j);
    }
  return {begins, row_tokens, weights};
}

uint64_t ExpertRowsBytes(int64_t tokens, int64_t top_k, int64_t experts) {
  constexpr uint64_t kAlignment = 64;
  return static_cast<uint64_t>(tokens * top_k) * (sizeof(int32_t) + sizeof(float)) +
         static_cast<uint64_t>(experts + 1) * sizeof(int32_t) + 3 * kAlignment;
}

}  // namespace sluice
