// What the benches of layers print: a line for everything measured, as it comes, and at the end the
// shares of the roofline side by side; or all of it as JSON.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/machine.h"
#include "bench/steady_runs.h"
#include "cli/bench/layer_shapes.h"
#include "cli/bench/stage_breakdown.h"

namespace sluice {

/// One line.
struct LayerFigures {
  std::string line;
  int64_t tokens;
  bench::SteadyRuns runs;
  std::vector<LayerWork> work = {};  // of each run that counts
  // Its share of the roofline over that of the first line measured in turn with it; 1 for that one,
  // 0 where no round counts for both.
  double pace = 1;
  double error = 0;                           // relative 2-norm of the worst sampled row
  std::optional<StageBreakdown> stages = {};  // of a call beside those runs
};

/// Shares of the roofline, run by run.
std::vector<double> RooflineShares(const LayerFigures& figures);

struct Spread {
  double min, median, max;
};

/// Medians over the runs, each beside its own ceilings.
struct LayerSummary {
  Spread seconds;
  double bytes, active, flop, flops, bandwidth;  // work of a run; ceilings per second
  double byte_share, flop_share, roofline_share;
  double beyond_seconds;  // what a call takes more than the roofline
};
LayerSummary Summarise(const LayerFigures& figures);

/// What the report is about.
struct ReportedMachine {
  std::string processor, features;
  int threads = 0;  // 0: a GPU, whose rates are printed in TFLOP/s and TB/s
};
/// This machine, as the benches of the CPU use it.
ReportedMachine ReportCpu(const Machine& machine, int threads);

class LayerReport {
 public:
  /// Prints the machine, unless the report is JSON.
  LayerReport(bool json, ReportedMachine machine);

  /// What is measured from here on: `subject` (a geometry, say) in a `format`, both unique
  /// together, with settings for JSON and the name of the peak that operations are compared with.
  using Settings = std::vector<std::pair<std::string, std::string>>;
  void Begin(std::string subject, std::string format, std::string_view title, Settings settings,
             std::string peak);
  /// A line of it.
  void Add(const LayerFigures& figures);
  /// Ends it: stages, if there are any, and the ceilings.
  void End();
  /// The table of shares (if there are several formats), or the JSON.
  void Finish() const;

  /// Everything added, in that order.
  std::vector<LayerFigures> figures() const;

 private:
  struct Layer {
    std::string subject, format;
    Settings settings;
    std::string peak;
    std::vector<LayerFigures> figures;
  };
  void PrintLine(const LayerFigures& figures) const;
  void PrintShares() const;
  void PrintJson() const;

  bool json_;
  ReportedMachine machine_;
  double rate_;  // operations or bytes per second of the unit that is printed
  int bytes_digits_;
  const char *flops_unit_, *bytes_unit_;
  std::vector<Layer> layers_;
};

/// What the settings of every report about a mixture-of-experts layer begin with.
LayerReport::Settings ShapeSettings(const MoeShape& shape, const std::string& ep_share);

}  // namespace sluice
