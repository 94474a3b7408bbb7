// What the benches of layers share: a team beside its ceilings.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/team.h"
#include "bench/machine_ceilings.h"
#include "bench/peaks.h"
#include "cli/bench/layer_report.h"
#include "cli/bench/layers.h"
#include "cli/bench/weights.h"
#include "tensor/exec.h"

namespace sluice {

class LayerBench {
 public:
  /// Checks the instruction set and that the tuner's file can be written. Errors:
  /// kInvalidArgument, kUnsupported.
  static Result<std::unique_ptr<LayerBench>> Make(const BenchLayerOptions& options);

  /// What is measured next has these weights and rows: chooses the peak to compare with. Errors:
  /// kUnsupported, if no kernel takes them.
  Status Use(const BenchFormat& format);

  Team& team() { return team_; }
  const Machine& machine() const { return machine_; }
  std::string peak_name() const { return std::string(peak_->product) + " " + peak_->isa; }
  /// kOutOfMemory unless so many bytes can be had, with room left for the ceilings.
  Status CheckMemory(uint64_t bytes, const char* advice) const;

  /// What is done for a run: `prepare` (draws the run's inputs, before its ceilings), `run`, which
  /// alone is timed and makes `calls` calls, and `work`, what a call amounted to. Where calls is 1
  /// and a call is short, a run is several of them, caches emptied and inputs drawn anew between.
  struct Steps {
    std::string line;
    std::function<void()> prepare, run;
    std::function<LayerWork()> work;
    int calls = 1;
  };
  /// A line for each of `contenders`, which take turns.
  std::vector<LayerFigures> Measure(int64_t tokens, std::span<const Steps> contenders);
  /// How many calls of `run` take about two milliseconds when they follow each other, at most
  /// 10,000.
  int CallsInARun(const std::function<void()>& run);
  /// Sets `figures.stages`, if a trace or a plot was asked for, from runs beside the measured ones:
  /// of three with their stages recorded, the one of median time, by the call. The work inside its
  /// products: at the ceilings of the measured runs. `label`: of the run in a trace.
  void Trace(const Steps& steps, const std::string& label, LayerFigures& figures);
  /// Errors of a plot that would have more than one title: kInvalidArgument.
  static Status CheckPlot(const BenchLayerOptions& options, size_t geometries, size_t formats);
  /// Writes the trace and the plot that were asked for. Errors: a file cannot be written.
  Status WriteTraces(const LayerReport& report, const std::string& title) const;
  /// Looks for better block sizes for products of some `rows` rows and `inputs_min` to `inputs_max`
  /// inputs, which `steps` are made of, and keeps their line. Nothing is done where rows are few.
  void Tune(const std::string& label, int64_t rows, int64_t inputs_min, int64_t inputs_max,
            const Steps& steps);
  /// Adds the lines kept to the file that was asked for. Errors: it cannot be written.
  Status WriteTuned() const;

 private:
  LayerBench(const BenchLayerOptions& options, Machine machine, int threads);

  const BenchLayerOptions& options_;
  Machine machine_;
  PinnedCaller pinned_;
  Team team_;
  bench::RunLanes run_;
  bench::ReadBandwidth memory_;
  BenchFormat format_;
  const bench::PeakLoop* peak_ = nullptr;
  std::string tuned_;                  // lines for the table
  std::optional<double> unpack_rate_;  // of format_, stored bytes per second; 0: nothing to unpack
  std::deque<std::string> labels_;     // of traced calls, which trace events point to
};

/// The file that a flag names can be written: known now, not when what was measured would be lost.
/// An empty path is none. Errors: kInvalidArgument.
Status CheckWritable(const char* flag, const std::string& path);

/// Values like activations, and their bfloat16s.
std::vector<float> RandomRows(SplitMix64& random, int64_t count);

/// Rows of `tokens` to compare with a reference that takes so many multiplications a row: a few, at
/// least one.
std::vector<int64_t> SampleRows(int64_t tokens, double row_flop);

/// The relative 2-norm of the worst row's difference.
double WorstRowError(const std::vector<float>& actual, const std::vector<float>& expected,
                     int64_t width);

}  // namespace sluice
