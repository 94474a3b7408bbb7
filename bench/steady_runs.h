// Runs between measurements of the machine's ceilings: a run beside which a ceiling moved says
// nothing, so it is thrown away and repeated.
#pragma once

#include <functional>
#include <vector>

namespace sluice::bench {

/// What the machine allows: operations and bytes read per second.
struct Ceilings {
  double flops = 0, bytes = 0;
};

struct SteadyRuns {
  // Of the runs that count: seconds, the mean of the ceilings before and after, and their index.
  std::vector<double> seconds;
  std::vector<Ceilings> ceilings;
  std::vector<int> indices;
  int rejected = 0;    // runs that were repeated
  bool steady = true;  // false: too many were, so unsteady ones count as well
};

/// How far a ceiling may move from before a run to after it.
inline constexpr double kSteadyShare = 0.10;

/// Calls `once(i)`, which returns seconds, between two calls of `measure` (the one after a run is
/// the one before the next) until `runs` of them count. At most `runs` * 3 are made; if too few
/// were steady, unsteady ones fill up the rest in the order in which they were made.
SteadyRuns RunBesideCeilings(int runs, const std::function<Ceilings()>& measure,
                             const std::function<double(int)>& once);

}  // namespace sluice::bench
