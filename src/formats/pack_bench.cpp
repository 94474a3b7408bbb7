// pack_bench [lanes [format]]: packing a checkpoint's bfloat16 rows, quantised as they are, beside
// memcpy from memory to memory. A run of either alternates; printed are medians and the median of
// the paired shares: of bytes read in those that memcpy copies, and of bytes moved (those read and
// those written; memcpy moves each one twice).
#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/machine.h"
#include "base/random.h"
#include "base/team.h"
#include "bench/machine_ceilings.h"
#include "formats/packed_matrix.h"

namespace sluice {
namespace {

constexpr int kRuns = 9;
constexpr int64_t kOutputs = 2048, kInputs = 4096;
constexpr int kMatrices = 8;  // of each lane: far more than the caches hold

constexpr WeightLayout kLayouts[] = {
    {},
    {WeightFormat::kFp8E4M3},
    {WeightFormat::kInt8},
    {WeightFormat::kInt4, 32},
    {WeightFormat::kInt4, 64},
    {WeightFormat::kInt4, 128},
    {WeightFormat::kInt4, 64, true},
};

// What one lane reads and writes.
struct Work {
  std::vector<Bf16> rows;
  std::vector<PackedMatrix> packed;
};

void Measure(WeightLayout layout, bench::ReadBandwidth& bandwidth, Team& team) {
  const bench::RunLanes run = [&](const auto& f) { team.Run(f); };
  const int lanes = team.lanes();
  std::vector<Work> work(static_cast<size_t>(lanes));
  run([&](int lane) {
    Work& w = work[static_cast<size_t>(lane)];
    SplitMix64 random(static_cast<uint64_t>(lane));
    std::vector<Bf16> table(4096);
    for (Bf16& x : table) x = ToBf16(random.Normal());
    w.rows.resize(kMatrices * kOutputs * kInputs);
    for (size_t i = 0; i < w.rows.size(); i += 4) {
      const uint64_t bits = random.Next();
      for (size_t j = 0; j < 4; ++j) w.rows[i + j] = table[bits >> (16 * j) & 4095];
    }
    for (int m = 0; m < kMatrices; ++m)
      w.packed.push_back(std::move(*PackedMatrix::Allocate(layout, kOutputs, kInputs)));
  });
  const auto pack = [&](int lane) {
    Work& w = work[static_cast<size_t>(lane)];
    for (int m = 0; m < kMatrices; ++m)
      w.packed[static_cast<size_t>(m)].Pack(
          0, View<const Bf16, 2>(w.rows.data() + m * kOutputs * kInputs, {kOutputs, kInputs}));
  };
  run(pack);  // touches every page
  const double source = 2.0 * kMatrices * kOutputs * kInputs * lanes;
  const double moved = source + static_cast<double>(work[0].packed[0].bytes()) * kMatrices * lanes;
  std::vector<double> rates, copies, shares;
  for (int i = 0; i < kRuns; ++i) {
    copies.push_back(2 * bandwidth.MeasureCopy(lanes, run));
    const double begin = bench::Now(lanes);
    run(pack);
    rates.push_back(moved / (bench::Now(lanes) - begin));
    shares.push_back(rates.back() / copies.back());
  }
  const double rate = bench::Median(rates), share = 100 * bench::Median(shares);
  std::printf("%-36s %6.2f GB/s of bfloat16s, %5.1f %% of memcpy's %6.2f; %6.2f moved, %5.1f %%\n",
              LayoutName(layout).c_str(), rate * source / moved * 1e-9, 2 * share * source / moved,
              bench::Median(copies) / 2 * 1e-9, rate * 1e-9, share);
  std::fflush(stdout);
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  using namespace sluice;
  const int lanes = argc > 1 ? std::max(1, std::atoi(argv[1])) : UsableCores();
  const std::string only = argc > 2 ? argv[2] : "";
  Team team(lanes, true);
  bench::ReadBandwidth bandwidth;
  std::printf("%s, %d lanes\n", ProcessorName().c_str(), lanes);
  for (const WeightLayout& layout : kLayouts)
    if (LayoutName(layout).starts_with(only)) Measure(layout, bandwidth, team);
}
