#include "bench/steady_runs.h"

#include <cmath>

#include "bench/machine_ceilings.h"

namespace sluice::bench {
namespace {

bool Moved(double before, double after) {
  return !(std::abs(after - before) <= kSteadyShare * before);  // a NaN has moved
}

void Append(SteadyRuns& to, double seconds, Ceilings ceilings, int round) {
  to.seconds.push_back(seconds);
  to.ceilings.push_back(ceilings);
  to.rounds.push_back(round);
}

void FillUp(SteadyRuns& runs, const SteadyRuns& unsteady, size_t count) {
  for (size_t i = 0; runs.seconds.size() < count; ++i) {
    runs.steady = false;
    --runs.rejected;
    Append(runs, unsteady.seconds[i], unsteady.ceilings[i], unsteady.rounds[i]);
  }
}

}  // namespace

std::vector<SteadyRuns> RunBesideCeilings(const RunLimits& limits, int contenders,
                                          const RunHooks& hooks) {
  const auto enough = static_cast<size_t>(limits.runs);
  std::vector<SteadyRuns> out(static_cast<size_t>(contenders)), unsteady(out.size());
  const double end = hooks.clock() + limits.seconds_max;
  hooks.prepare();
  Ceilings before = hooks.measure();
  for (int round = 0; round < 3 * limits.runs; ++round) {
    if (round >= limits.runs && hooks.clock() >= end) break;
    std::vector<size_t> turns;
    for (size_t c = 0; c < out.size(); ++c)
      if (out[c].seconds.size() < enough) turns.push_back(c);
    for (const size_t c : turns) {
      const double seconds = hooks.once(static_cast<int>(c), round);
      if (c == turns.back()) hooks.prepare();
      const Ceilings after = hooks.measure();
      const bool moved = Moved(before.flops, after.flops) || Moved(before.bytes, after.bytes);
      Append(moved ? unsteady[c] : out[c], seconds,
             {(before.flops + after.flops) / 2, (before.bytes + after.bytes) / 2}, round);
      out[c].rejected += moved;
      before = after;
    }
    if (turns.empty()) break;
  }
  for (size_t c = 0; c < out.size(); ++c) FillUp(out[c], unsteady[c], enough);
  return out;
}

double PairedRatio(const SteadyRuns& ours, const std::vector<double>& our_values,
                   const SteadyRuns& theirs, const std::vector<double>& their_values) {
  std::vector<double> ratios;
  for (size_t i = 0; i < ours.rounds.size(); ++i)
    for (size_t j = 0; j < theirs.rounds.size(); ++j)
      if (ours.rounds[i] == theirs.rounds[j]) ratios.push_back(our_values[i] / their_values[j]);
  return ratios.empty() ? 0 : Median(ratios);
}

}  // namespace sluice::bench
