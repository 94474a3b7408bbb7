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
  // Of the runs that count: seconds, the mean of the ceilings before and after, and their round.
  std::vector<double> seconds;
  std::vector<Ceilings> ceilings;
  std::vector<int> rounds;
  int rejected = 0;    // runs that were repeated
  bool steady = true;  // false: too many were, so unsteady ones count as well
};

/// How far a ceiling may move from before a run to after it.
inline constexpr double kSteadyShare = 0.10;

/// How long to go on.
struct RunLimits {
  int runs = 9;             // that count
  double seconds_max = 60;  // no run is repeated after so long, whatever the machine does
};

/// What is measured, and with what. Contenders are numbered from 0.
struct RunHooks {
  std::function<void()> prepare;      // before the ceilings that begin a round
  std::function<Ceilings()> measure;  // the one after a run is the one before the next
  std::function<double(int contender, int round)> once;  // a run; returns its seconds
  std::function<double()> clock;                         // seconds, for the limit
};

/// Takes the contenders in turn, round by round, so that what drifts meets all of them alike, until
/// `limits.runs` runs of each count; one that has enough is left out. At most 3 * runs rounds are
/// made, and none to repeat what was rejected once `seconds_max` have passed; if too few were
/// steady by then, unsteady ones fill up the rest in the order in which they were made.
std::vector<SteadyRuns> RunBesideCeilings(const RunLimits& limits, int contenders,
                                          const RunHooks& hooks);

/// Of the rounds that count for both, the median of one's value over the other's: `ours[i]` and
/// `theirs[i]` belong to the i-th run that counts. 0 if they have no round in common.
double PairedRatio(const SteadyRuns& ours, const std::vector<double>& our_values,
                   const SteadyRuns& theirs, const std::vector<double>& their_values);

}  // namespace sluice::bench
