// What the benches of layers share: a team beside its ceilings, and the report.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/team.h"
#include "bench/machine_ceilings.h"
#include "bench/peaks.h"
#include "bench/steady_runs.h"
#include "cli/bench_layers.h"
#include "cli/layer_shapes.h"
#include "cli/stage_breakdown.h"
#include "formats/weight_format.h"
#include "kernels/linear/activation_quant.h"
#include "tensor/exec.h"

namespace sluice {

/// One line of the report.
struct LayerFigures {
  std::string layer;
  int64_t tokens;
  bench::SteadyRuns runs;
  std::vector<LayerWork> work;                // of each run that counts
  double error;                               // relative 2-norm of the worst sampled row
  std::optional<StageBreakdown> stages = {};  // of a call beside those runs
};

class LayerBench {
 public:
  /// Checks tokens, threads, instruction set and memory, and that there is a kernel for the
  /// weights. Errors: kInvalidArgument, kUnsupported.
  static Result<std::unique_ptr<LayerBench>> Make(const BenchLayerOptions& options,
                                                  WeightLayout layout, ActivationQuant activations);

  Team& team() { return team_; }
  const Machine& machine() const { return machine_; }
  /// kOutOfMemory unless so many bytes can be had, with room left for the ceilings.
  Status CheckMemory(uint64_t bytes, const char* advice) const;

  /// What is done for a run: `prepare` (draws the run's inputs, before its ceilings), `run`, which
  /// alone is timed, and `work`, what the run amounted to.
  struct Steps {
    std::function<void()> prepare, run;
    std::function<LayerWork()> work;
  };
  LayerFigures Measure(std::string layer, int64_t tokens, const Steps& steps);
  /// Sets `figures.stages` from calls beside the measured ones: of three with their stages
  /// recorded, the one of median time. The work inside its products: at the ceilings of the
  /// measured runs.
  void Trace(const Steps& steps, LayerFigures& figures);
  /// Looks for better block sizes for products of some `rows` rows and `inputs_min` to `inputs_max`
  /// inputs, which `steps` are made of, and keeps their line. Nothing is done where rows are few,
  /// or quantised: these are not blocked by the table.
  void Tune(const std::string& label, int64_t rows, int64_t inputs_min, int64_t inputs_max,
            const Steps& steps);
  /// Adds the lines kept to the file that was asked for. Errors: it cannot be written.
  Status WriteTuned() const;
  /// Prints everything measured: a table, or JSON with `settings` as its first members.
  using Settings = std::vector<std::pair<std::string, std::string>>;
  void Report(const Settings& settings, const std::vector<LayerFigures>& figures) const;

 private:
  LayerBench(const BenchLayerOptions& options, Machine machine, const bench::PeakLoop& peak,
             WeightLayout layout, bool quantised, int threads);

  const BenchLayerOptions& options_;
  Machine machine_;
  PinnedCaller pinned_;
  Team team_;
  const bench::PeakLoop& peak_;
  bench::ReadBandwidth memory_;
  WeightLayout layout_;
  bool quantised_;                     // rows are
  std::string tuned_;                  // lines for the table
  std::optional<double> unpack_rate_;  // stored bytes per second; 0: nothing to unpack
  std::deque<std::string> labels_;     // of traced calls, which trace events point to
};

/// Values like activations, and their bfloat16s.
std::vector<float> RandomRows(SplitMix64& random, int64_t count);

/// Rows of `tokens` to compare with a reference that takes so many multiplications a row: a few, at
/// least one.
std::vector<int64_t> SampleRows(int64_t tokens, double row_flop);

/// The relative 2-norm of the worst row's difference.
double WorstRowError(const std::vector<float>& actual, const std::vector<float>& expected,
                     int64_t width);

}  // namespace sluice
