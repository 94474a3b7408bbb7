// `sluice bench moe` and `sluice bench linear`: layers or products beside this machine's ceilings.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice {

inline constexpr int64_t kBenchTokensMax = 1 << 20;  // of a call

struct BenchLayerOptions {
  std::vector<std::string> geometries;
  std::vector<int64_t> tokens = {1, 8, 32, 512, 2048};  // each in [1, kBenchTokensMax]
  std::vector<std::string> formats = {"bf16"};
  int64_t group_size = 64;                          // of int4
  bool zero_points = false;                         // of int4
  std::vector<std::string> activations = {"auto"};  // as --activation-quantization
  std::string cpu_isa = "auto";
  int threads = 0;  // 0: every usable core
  int runs = 9;
  double seconds_max = 20;  // of lines that take turns; after that no disturbed run is repeated
  uint64_t seed = 1;
  bool json = false;
  std::string trace_path;  // a Chrome trace of the lanes' stages; empty: none
  std::string plot_path;   // the breakdown as SVG; empty: none
  bool tune = false;       // look for better block sizes instead of measuring
  std::string
      tune_path;  // file that lines for the table are added to; empty: they are only printed
};

struct BenchMoeOptions : BenchLayerOptions {
  std::string device = "cpu";    // or "cuda"
  std::vector<int> ranks = {1};  // virtual ones, on a GPU
  std::string ep_share = "1/1";
  std::vector<std::string> backends = {"auto"};
  std::vector<std::string> routings = {"uniform"};
  std::vector<std::string> experts = {"all"};  // or "routed": without the shared one
  std::vector<std::string> ablate = {"none"};  // parts that are switched off, joined by +
  bool router = false;  // runs before every call, and alone in a line of its own
  bool cached = false;  // calls follow each other on the same rows and experts
};

struct BenchLinearOptions : BenchLayerOptions {
  std::vector<std::string> shapes;  // OUTPUTSxINPUTS, instead of or besides a geometry's
  int copies = 0;                   // of a matrix, by turns; 0: so many that none stays in a cache
};

/// Print, for every combination of what the lists name: min, median and max of the steady runs,
/// bytes of the weights that were read and operations per second, both as shares of ceilings
/// measured before and after every run, the share of the roofline, the time beyond it, the pace
/// beside the first line of the same rows, and the error against the double reference. One layer is
/// held in memory at a time. Exit status as RunPrompt. With `device` "cuda": bench_moe_cuda.h.
int RunBenchMoe(const BenchMoeOptions& options);
int RunBenchLinear(const BenchLinearOptions& options);

}  // namespace sluice
