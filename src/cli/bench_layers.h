// `sluice bench moe` and `sluice bench linear`: one layer or product beside this machine's
// ceilings.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice {

struct BenchLayerOptions {
  std::string geometry;
  std::vector<int64_t> tokens = {1, 8, 32, 512, 2048};
  std::string format = "bf16";
  std::string activations = "none";
  std::string cpu_isa = "auto";
  int threads = 0;  // 0: every usable core
  int runs = 9;
  uint64_t seed = 1;
  bool json = false;
  bool tune = false;  // look for better block sizes instead of measuring
  std::string
      tune_path;  // file that lines for the table are added to; empty: they are only printed
};

struct BenchMoeOptions : BenchLayerOptions {
  std::string ep_share = "1/1";
  std::vector<std::string> backends = {"auto"};  // measured one after another
  std::string routing = "uniform";
  std::vector<std::string> ablate;  // parts of the back ends that are switched off
  std::string trace_path;           // a Chrome trace of the lanes' stages; empty: none
  std::string plot_path;            // the breakdown as SVG; empty: none
};

struct BenchLinearOptions : BenchLayerOptions {
  std::vector<std::string> shapes;  // OUTPUTSxINPUTS, instead of or besides a geometry's
};

/// Print, for each number of tokens (and shape): min, median and max of the steady runs, bytes of
/// the weights that were read and operations per second, both as shares of ceilings measured before
/// and after every run, the share of the roofline, and the error against the double reference. Exit
/// status as RunPrompt.
int RunBenchMoe(const BenchMoeOptions& options);
int RunBenchLinear(const BenchLinearOptions& options);

}  // namespace sluice
