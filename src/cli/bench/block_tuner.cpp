#include "cli/bench/block_tuner.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "base/machine.h"
#include "bench/machine_ceilings.h"

namespace sluice {
namespace {

constexpr int kPairs = 9;
constexpr double kGain = 0.97;
constexpr double kSecondsMin = 0.02;  // of a timed run: shorter work is repeated

const char* FormatOf(WeightFormat format) {
  switch (format) {
    case WeightFormat::kBf16: return "kBf16";
    case WeightFormat::kFp8E4M3: return "kFp8E4M3";
    case WeightFormat::kInt8: return "kInt8";
    case WeightFormat::kInt4: return "kInt4";
  }
  return "";
}

constexpr int kWholeRows = 1 << 20;

std::string Describe(const BlockSizes& s) {
  std::string out;
  if (s.rows) out += fmt::format("rows {} ", s.rows);
  if (s.inputs == kWholeRows) out += "whole rows ";
  if (s.inputs == 1) out += "by slices ";
  if (s.inputs > 1 && s.inputs < kWholeRows) out += fmt::format("slices of {} ", s.inputs);
  if (s.panels) out += fmt::format("panels {} ", s.panels);
  if (s.direct_blocks >= 0) out += fmt::format("direct blocks {} ", s.direct_blocks);
  if (s.block_rows) out += fmt::format("register blocks of {} ", s.block_rows);
  if (!s.prefetch) out += "no prefetch ";
  return out;
}

double Seconds(const TuneTask& task, int repeats) {
  const double begin = bench::Now(task.lanes);
  for (int i = 0; i < repeats; ++i) task.run();
  return (bench::Now(task.lanes) - begin) / repeats;
}

// Times under `sizes` / times of the formula, in alternating order.
std::vector<double> Compare(const TuneTask& task, const BlockSizes& sizes, int repeats) {
  std::vector<double> ratios;
  for (int pair = 0; pair < kPairs; ++pair) {
    task.prepare();
    double formula = 0, tried = 0;
    for (const bool first : {true, false})
      if (first == (pair % 2 == 0)) {
        const ForcedBlockSizes forced{BlockSizes()};
        formula = Seconds(task, repeats);
      } else {
        const ForcedBlockSizes forced(sizes);
        tried = Seconds(task, repeats);
      }
    ratios.push_back(tried / formula);
  }
  return ratios;
}

}  // namespace

std::vector<BlockSizes> BlockSizesToTry(WeightFormat format, ActivationQuant activations) {
  std::vector<BlockSizes> out;
  for (const int rows : {48, 72, 96, 144, 192, 288}) out.push_back({.rows = rows});
  if (activations == ActivationQuant::kNone) {
    for (const int inputs : {1, kWholeRows}) out.push_back({.inputs = inputs});
    for (const int panels : {4, 8, 16}) out.push_back({.panels = panels});
  } else {
    for (const int inputs : {256, 512, 1024, 2048, kWholeRows}) out.push_back({.inputs = inputs});
    for (const int rows : {6, 8, 10, 12}) out.push_back({.block_rows = rows});
  }
  if (format != WeightFormat::kBf16)
    for (const int blocks : {0, 1, 4, 8}) out.push_back({.direct_blocks = blocks});
  out.push_back({.prefetch = false});
  return out;
}

BlockSizes Merged(BlockSizes base, const BlockSizes& change) {
  if (change.rows) base.rows = change.rows;
  if (change.inputs) base.inputs = change.inputs;
  if (change.panels) base.panels = change.panels;
  if (change.direct_blocks >= 0) base.direct_blocks = change.direct_blocks;
  if (change.block_rows) base.block_rows = change.block_rows;
  if (!change.prefetch) base.prefetch = false;
  return base;
}

bool Wins(const std::vector<double>& ratios) {
  const auto faster = std::count_if(ratios.begin(), ratios.end(), [](double r) { return r < 1; });
  return bench::Median(ratios) <= kGain &&
         9 * faster >= 8 * static_cast<std::ptrdiff_t>(ratios.size());
}

std::string TableLine(const TuneTask& task, const BlockSizes& sizes, double ratio,
                      const std::string& machine) {
  const auto floor = [](int64_t x) {
    return static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(x)));
  };
  return fmt::format(
      "{{\"{}\", WeightFormat::{}, ActivationQuant::{}, {}, {}, {}, {}, {}, {{{}, {}, {}, {}, {}, "
      "{}}}}},  // {}: {:.2f} of the formula's time, {}\n",
      task.kernel, FormatOf(task.format),
      task.activations == ActivationQuant::kInt8 ? "kInt8" : "kNone", task.lanes, floor(task.rows),
      2 * floor(task.rows), floor(task.inputs_min), 2 * floor(task.inputs_max), sizes.rows,
      sizes.inputs, sizes.panels, sizes.direct_blocks, sizes.block_rows, sizes.prefetch, machine,
      ratio, task.label);
}

std::string TuneBlockSizes(const TuneTask& task) {
  task.prepare();
  task.run();  // the first touch of scratch memory
  const int repeats =
      std::clamp(static_cast<int>(kSecondsMin / std::max(Seconds(task, 1), 1e-6)), 1, 1000);
  fmt::print("\n{}: {} with {} threads, {} rows a product\n", task.label, task.kernel, task.lanes,
             task.rows);
  BlockSizes best, together;
  double best_ratio = 1;
  int winners = 0;
  const auto judge = [&](const BlockSizes& sizes) {
    std::vector<double> ratios = Compare(task, sizes, repeats);
    bool wins = Wins(ratios);
    if (wins) {  // of some dozen candidates one wins by chance, but hardly twice
      ratios = Compare(task, sizes, repeats);
      wins = Wins(ratios);
    }
    const double ratio = bench::Median(ratios);
    fmt::print("  {:<44} {:.3f} of the formula's time ({:.3f}-{:.3f}){}\n", Describe(sizes), ratio,
               *std::min_element(ratios.begin(), ratios.end()),
               *std::max_element(ratios.begin(), ratios.end()), wins ? "  wins" : "");
    if (wins && ratio < best_ratio) {
      best = sizes;
      best_ratio = ratio;
    }
    return wins;
  };
  for (const BlockSizes& sizes : BlockSizesToTry(task.format, task.activations))
    if (judge(sizes)) {
      together = Merged(together, sizes);
      ++winners;
    }
  if (winners > 1 && together != best) judge(together);
  if (best_ratio == 1) {
    fmt::print("  the formula stays\n");
    return "";
  }
  std::string line = TableLine(task, best, best_ratio, ProcessorName());
  fmt::print("  keep: {}", line);
  return line;
}

}  // namespace sluice
