#include "cli/bench_flags.h"

#include <CLI/CLI.hpp>

#include "cli/number_checks.h"

namespace sluice {
namespace {

void AddThreads(CLI::App& parser, int& threads) {
  parser.add_option("--threads", threads, "Threads that compute [every usable core]")
      ->check(CLI::Range(0, 4096));
}

void AddLayerFlags(CLI::App& parser, BenchLayerOptions& o) {
  parser.add_option("--geometry", o.geometry, "A shipped geometry or a checkpoint's directory");
  parser.add_option("--tokens", o.tokens, "Rows of a call, one or several")
      ->delimiter(',')
      ->capture_default_str();
  parser
      .add_option("--format", o.format,
                  "Of the weights: bf16, fp8 (a scale an output), fp8_block, int8, int4 (groups of "
                  "128), int4_64, int4_32, and int4's with _zp (zero points)")
      ->capture_default_str();
  parser
      .add_option("--activations", o.activations,
                  "How products read rows: none (as they are), int8 (quantised row by row)")
      ->capture_default_str();
  parser
      .add_option("--cpu-isa", o.cpu_isa,
                  "Fastest instruction set to use: auto, avx2, avx512, vnni, avx512_bf16, amx")
      ->capture_default_str();
  AddThreads(parser, o.threads);
  parser.add_option("--runs", o.runs, "Runs that count")
      ->check(CLI::Range(9, 10000))
      ->capture_default_str();
  parser.add_option("--seed", o.seed, "Of weights, rows and routing")
      ->check(NotNegative)
      ->capture_default_str();
  parser.add_flag("--json", o.json, "JSON instead of a table");
  parser.add_flag(
      "--tune", o.tune,
      "Measure other block sizes against the present ones instead, and print those that "
      "win by more than noise as lines of block_sizes_table.inc");
  parser.add_option("--tune-file", o.tune_path, "Add these lines to a file")->needs("--tune");
}

constexpr const char* kCeilings =
    "Before and after every run the machine's ceilings are measured; a run beside which one moved "
    "by "
    "more than 10 % is repeated.\n";

constexpr const char* kStagesHelp =
    "--trace and --plot break calls down that are made beside the measured ones. Visible: the "
    "stages\n"
    "  sort        rows by expert\n"
    "  gather      rows copied (or quantised) into packed blocks\n"
    "  unpack      weights decoded into scratch, for several register blocks\n"
    "  gate/up, down   the products themselves, reading weights included\n"
    "  activation  of gate, times up; combine: rows of experts to rows of the output\n"
    "  waiting     for another lane\n"
    "as means over the lanes, so they add up to the call. Hidden: arithmetic (at the peak), "
    "reading\n"
    "weights (at the bandwidth) and unpacking in registers (at the rate of `bench machine`) all "
    "take\n"
    "place inside gate/up and down; what they would take one after another, less the time of "
    "these\n"
    "two stages, is the least that was done at the same time.\n";

constexpr const char* kMachineLines =
    "All threads together, medians of 7:\n"
    "  fp32 FMA, bf16 dot, int8 dot, bf16 tiles, int8 tiles   multiplications and additions a "
    "second\n"
    "              of the instructions that products are made of, from registers: the ceiling of\n"
    "              `sluice bench moe|linear`. From L1 and L2: what is left when one operand of "
    "each\n"
    "              is read from there, which says how far a kernel must reuse registers.\n"
    "  unpack      decoders of the weight formats. A format unpacked slower than its bytes are "
    "read\n"
    "              from memory cannot reach the read bandwidth at one row. bf16 is copied.\n"
    "  read        the ceiling of decode: weights are read once a step. With 4 KiB pages: what\n"
    "              missing huge pages cost.\n"
    "  copy        memcpy, bytes copied: the ceiling of packing weights at load.\n"
    "  barrier     one wait of all threads for each other; a fused layer has one or two.\n"
    "  empty call  handing work to all threads and waiting for them: what every operation pays.";

}  // namespace

void AddBenchParts(CLI::App& bench, BenchParts& parts) {
  CLI::App& machine = *bench.add_subcommand("machine", "What this machine can do at most");
  AddThreads(machine, parts.machine.threads);
  machine.add_flag("--json", parts.machine.json, "JSON instead of a table");
  machine.footer(kMachineLines);

  CLI::App& moe = *bench.add_subcommand("moe", "One mixture-of-experts layer");
  AddLayerFlags(moe, parts.moe);
  moe.get_option("--geometry")->required();
  moe.add_option("--ep-share", parts.moe.ep_share, "What one of N devices owns, as 1/N")
      ->capture_default_str();
  moe.add_option("--backend", parts.moe.backends,
                 "As --moe-backend, one or several beside each other")
      ->delimiter(',')
      ->capture_default_str();
  moe.add_option("--ablate", parts.moe.ablate,
                 "Parts of fused_v2 to do without, one or several: shared (expert in the task "
                 "list), prefetch, residency, overlap")
      ->delimiter(',');
  moe.add_option("--routing", parts.moe.routing, "uniform, zipf, hot (expert 0 for every row)")
      ->capture_default_str();
  moe.add_option("--trace", parts.moe.trace_path,
                 "Write a Chrome trace: a track a thread, its stages in three calls of each line");
  moe.add_option("--plot", parts.moe.plot_path, "Write the stages of a call of each line as SVG");
  moe.footer(std::string(kCeilings) + kStagesHelp +
             "Example:\n  sluice bench moe --geometry Ling-2.6-1T --ep-share 1/32 --tokens 4096");

  CLI::App& linear = *bench.add_subcommand("linear", "Dense products");
  AddLayerFlags(linear, parts.linear);
  linear.add_option("--shapes", parts.linear.shapes, "OUTPUTSxINPUTS, one or several")
      ->delimiter(',');
  linear.footer(std::string(kCeilings) +
                "Example:\n  sluice bench linear --shapes 4096x4096,8192x1024 --tokens 1,16,512");
  for (CLI::App* part : bench.get_subcommands({})) part->allow_extras();
}

int RunBenchPart(const CLI::App& bench, const BenchParts& parts) {
  if (bench.got_subcommand("machine")) return RunBenchMachine(parts.machine);
  if (bench.got_subcommand("moe")) return RunBenchMoe(parts.moe);
  if (bench.got_subcommand("linear")) return RunBenchLinear(parts.linear);
  return -1;
}

}  // namespace sluice
