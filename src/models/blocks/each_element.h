// Rare element-wise steps of a block, in place.
#pragma once

#include "tensor/exec.h"
#include "tensor/view.h"

namespace sluice {

/// x = change(x) for every element, shared over the lanes; `cost`: of one change, in additions.
template <class Change>
void EachElement(View<float, 2> x, int64_t cost, Change&& change, Exec& exec) {
  const int64_t width = x.dim(1);
  exec.team.ParallelFor(x.dim(0) * width, Team::GrainFor(cost), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float& value = x(i / width, i % width);
      value = change(value);
    }
  });
}

}  // namespace sluice
