#include "bench/steady_runs.h"

#include <cmath>

namespace sluice::bench {
namespace {

bool Moved(double before, double after) {
  return !(std::abs(after - before) <= kSteadyShare * before);  // a NaN has moved
}

}  // namespace

SteadyRuns RunBesideCeilings(int runs, const std::function<Ceilings()>& measure,
                             const std::function<double(int)>& once) {
  SteadyRuns out;
  SteadyRuns unsteady;
  Ceilings before = measure();
  for (int i = 0; i < 3 * runs && static_cast<int>(out.seconds.size()) < runs; ++i) {
    const double seconds = once(i);
    const Ceilings after = measure();
    const bool moved = Moved(before.flops, after.flops) || Moved(before.bytes, after.bytes);
    SteadyRuns& to = moved ? unsteady : out;
    to.seconds.push_back(seconds);
    to.ceilings.push_back({(before.flops + after.flops) / 2, (before.bytes + after.bytes) / 2});
    to.indices.push_back(i);
    out.rejected += moved;
    before = after;
  }
  for (size_t i = 0; static_cast<int>(out.seconds.size()) < runs; ++i) {
    out.steady = false;
    --out.rejected;
    out.seconds.push_back(unsteady.seconds[i]);
    out.ceilings.push_back(unsteady.ceilings[i]);
    out.indices.push_back(unsteady.indices[i]);
  }
  return out;
}

}  // namespace sluice::bench
