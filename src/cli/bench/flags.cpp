#include "cli/bench/flags.h"

#include <CLI/CLI.hpp>

#include "cli/number_checks.h"

namespace sluice {
namespace {

void AddThreads(CLI::App& parser, int& threads) {
  parser.add_option("--threads", threads, "Threads that compute [every usable core]")
      ->check(CLI::Range(0, 4096));
}

void AddLayerFlags(CLI::App& parser, BenchLayerOptions& o) {
  parser.add_option("--geometry", o.geometries, "Shipped geometries or directories of checkpoints")
      ->delimiter(',');
  parser.add_option("--tokens", o.tokens, "Rows of a call")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{1}, kBenchTokensMax))
      ->capture_default_str();
  parser
      .add_option(
          "--format", o.formats,
          "Of the weights: bf16, fp8 (a scale an output), fp8_block (a scale a block of 128 "
          "x 128), int8, int4")
      ->delimiter(',')
      ->capture_default_str();
  parser
      .add_option("--quantization-group-size,--group-size", o.group_size,
                  "Inputs that share an int4 scale")
      ->check(CLI::IsMember({"32", "64", "128"}))
      ->capture_default_str();
  parser.add_flag("--quantization-zero-points,--zero-points", o.zero_points,
                  "A zero point for each int4 group");
  parser
      .add_option("--activation-quantization", o.activations,
                  "Of rows that meet int8 or int4 weights: auto (int8), none, int8")
      ->delimiter(',')
      ->capture_default_str();
  parser
      .add_option(
          "--cpu-isa", o.cpu_isa,
          "Fastest instruction set to use: auto, avx2, avx_vnni, avx512, vnni, avx512_vbmi, "
          "avx512_bf16, amx")
      ->capture_default_str();
  AddThreads(parser, o.threads);
  parser.add_option("--runs", o.runs, "Runs that count")
      ->check(CLI::Range(9, 10000))
      ->capture_default_str();
  parser
      .add_option("--seconds-max", o.seconds_max,
                  "Of the runs of lines that take turns: after that no disturbed run is repeated")
      ->check(NotNegative)
      ->capture_default_str();
  parser.add_option("--seed", o.seed, "Of weights, rows and routing")
      ->check(NotNegative)
      ->capture_default_str();
  parser.add_flag("--json", o.json, "JSON instead of a table");
  parser
      .add_flag("--tune", o.tune,
                "Measure other block sizes against the present ones instead, and print those that "
                "win by more than noise as lines of block_sizes_table.inc")
      ->excludes("--json");
  parser
      .add_option("--trace", o.trace_path,
                  "Write a Chrome trace: a track a thread, its stages in three runs of each line")
      ->excludes("--tune");
  parser.add_option("--plot", o.plot_path, "Write the stages of a call of each line as SVG")
      ->excludes("--tune");
  parser.add_option("--tune-file", o.tune_path, "Add these lines to a file")->needs("--tune");
}

constexpr const char* kCeilings =
    "Lists are separated by commas; every combination is measured, one layer in memory at a time.\n"
    "Before and after every run the machine's ceilings are measured; a run beside which one moved "
    "by\n"
    "more than 10 % is repeated, in at most three times the runs. Where too few were left, the "
    "line\n"
    "says disturbed. With one thread its processor time is measured, otherwise the clock on the "
    "wall.\n"
    "  roof       share of the roofline: the larger of weight bytes / read bandwidth and "
    "operations "
    "/\n"
    "             peak of the instruction that the products are made of, over the time taken\n"
    "  beyond ms  the time that a call takes more than that\n"
    "  error      relative 2-norm of the worst of a few rows, against sums of doubles\n";

constexpr const char* kTurns =
    "  pace       of lines with the same tokens, which take turns run by run: the line's share of "
    "the\n"
    "             roofline over the first one's, median of the rounds\n";

constexpr const char* kStagesHelp =
    "--trace and --plot break calls down that are made beside the measured ones. Visible: the "
    "stages\n"
    "(of those that a line has)\n"
    "  sort        rows by expert\n"
    "  gather      rows copied (or quantised) into packed blocks\n"
    "  unpack      weights decoded into scratch, for several register blocks\n"
    "  gate/up, down, product   the products themselves, reading weights included\n"
    "  activation  of gate, times up; combine: rows of experts to rows of the output\n"
    "  waiting     for another lane\n"
    "as means over the lanes, so they add up to the call. Hidden: arithmetic (at the peak), "
    "reading\n"
    "weights (at the bandwidth) and unpacking in registers (at the rate of `bench machine`) all "
    "take\n"
    "place inside the products; what they would take one after another, less the time of the "
    "products,\n"
    "is the least that was done at the same time.\n";

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
  moe.get_option("--geometry")
      ->description(
          "Shipped geometries, directories of checkpoints, or shapes in numbers:\n"
          "HIDDENxINTERMEDIATExEXPERTSxTOP_K[xSHARED]");
  moe.add_option("--device", parts.moe.device, "cpu, or cuda: one Hopper GPU")
      ->capture_default_str();
  moe.add_option("--ranks", parts.moe.ranks,
                 "Virtual ranks that share the GPU and exchange rows (with --device cuda)")
      ->delimiter(',')
      ->check(CLI::Range(1, 8))
      ->capture_default_str();
  moe.add_option("--ep-share", parts.moe.ep_share, "What one of N devices owns, as 1/N")
      ->capture_default_str();
  moe.add_option("--moe-backend,--backend", parts.moe.backends,
                 "How experts are computed: auto, epmoe, fused, fused_v2")
      ->delimiter(',')
      ->capture_default_str();
  moe.add_option(
         "--ablate", parts.moe.ablate,
         "Parts of fused_v2 to do without: none, shared (expert in the task list), prefetch, "
         "residency, overlap, codes (rows quantised once); + joins several. On a GPU prefetch and "
         "overlap run in a kernel with switches; instrumented is that kernel with all parts, and "
         "lag:N, ring:N, ctas:N cut the work up otherwise")
      ->delimiter(',')
      ->capture_default_str();
  moe.add_option("--routing", parts.moe.routings, "uniform, zipf, hot (expert 0 for every row)")
      ->delimiter(',')
      ->capture_default_str();
  moe.add_option("--experts", parts.moe.experts, "all, routed (without the shared one)")
      ->delimiter(',')
      ->capture_default_str();
  moe.add_flag("--router", parts.moe.router,
               "Choose experts before every call (the calls follow --routing all the same); a line "
               "more is of that alone");
  moe.add_flag("--cached", parts.moe.cached,
               "Calls follow each other on the same rows and experts; their weights count as "
               "cached, not as bytes read from memory");
  moe.footer(
      std::string(kCeilings) + kTurns + kStagesHelp +
      "Examples: every format; skew and parts beside each other; a device's share; an empty call\n"
      "  sluice bench moe --geometry Qwen3-30B-A3B,Ling-mini-2.0 --format bf16,fp8,int8,int4 \\\n"
      "    --tokens 1,8,32,512,2048,8192\n"
      "  sluice bench moe --geometry Qwen3-30B-A3B --tokens 8,2048 --routing uniform,zipf,hot\n"
      "  sluice bench moe --geometry Ling-mini-2.0 --tokens 2048 --format int8 \\\n"
      "    --backend fused_v2 --ablate none,shared,prefetch,residency,overlap,codes\n"
      "  sluice bench moe --geometry Ling-2.6-1T --ep-share 1/32 --tokens 4096 --format fp8 \\\n"
      "    --experts all,routed\n"
      "  sluice bench moe --geometry 64x32x8x2 --tokens 1 --cached\n"
      "On a GPU: the L2 cache is emptied before each call, which is a graph; the roof is a "
      "product\n"
      "of cuBLASLt (8192 x 8192 x 8192) and reading memory; errors are against epmoe there\n"
      "  sluice bench moe --device cuda --geometry Ling-2.6-1T --ep-share 1/32 --tokens 128,4096 "
      "\\\n"
      "    --format fp8,bf16 --backend epmoe,fused_v2 --runs 21\n"
      "  sluice bench moe --device cuda --geometry Ling-2.6-1T --ep-share 1/32 --tokens 4096 \\\n"
      "    --format fp8 --ranks 1,4,8");

  CLI::App& linear = *bench.add_subcommand("linear", "Dense products");
  AddLayerFlags(linear, parts.linear);
  linear.add_option("--shapes", parts.linear.shapes, "OUTPUTSxINPUTS")->delimiter(',');
  linear
      .add_option(
          "--copies", parts.linear.copies,
          "Of a matrix, by turns; they count as cached, not as bytes read from memory [as many "
          "as no cache holds]")
      ->check(CLI::Range(1, 10000));
  linear.footer(std::string(kCeilings) + kStagesHelp +
                "Examples:\n"
                "  sluice bench linear --shapes 4096x4096,8192x1024 --tokens 1,16,512\n"
                "  sluice bench linear --shapes 256x256 --tokens 8 --copies 8 --threads 1");
  for (CLI::App* part : bench.get_subcommands({})) part->allow_extras();
}

int RunBenchPart(const CLI::App& bench, const BenchParts& parts) {
  if (bench.got_subcommand("machine")) return RunBenchMachine(parts.machine);
  if (bench.got_subcommand("moe")) return RunBenchMoe(parts.moe);
  if (bench.got_subcommand("linear")) return RunBenchLinear(parts.linear);
  return -1;
}

}  // namespace sluice
