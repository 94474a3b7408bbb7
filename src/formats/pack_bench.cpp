// pack_bench [lanes [format]]: packing into memory that has been touched before (page faults are
// not measured), from rows far larger than the caches, beside memcpy from memory to memory. A run
// of either alternates; printed are medians, and the median of the paired shares of bytes moved:
// those read and those written; memcpy moves each one twice. What is packed:
//   rows    a checkpoint's bfloat16s, quantised on the way
//   codes   those of a quantised checkpoint, with their scales
//   halves  either one sixteen rows at a time, into half panels, as the gate and up rows of experts
#include <cstdio>
#include <cstdlib>
#include <string>
#include <type_traits>
#include <vector>

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
    {WeightFormat::kFp8E4M3, 128},
    {WeightFormat::kInt8},
    {WeightFormat::kInt4, 32},
    {WeightFormat::kInt4, 64},
    {WeightFormat::kInt4, 128},
    {WeightFormat::kInt4, 64, true},
};

struct Case {
  WeightLayout layout;
  bool codes, halves;

  const char* Source() const {
    return codes ? (halves ? "codes, halves" : "codes") : (halves ? "rows, halves" : "rows");
  }
  int64_t SourceBytes() const { return codes ? 1 : 2; }
};

bool Exists(const Case& c) {
  if (c.codes) return c.layout.format == WeightFormat::kFp8E4M3;  // what checkpoints have
  return c.layout.format != WeightFormat::kFp8E4M3 || c.layout.scale_inputs == 0;
}

// What one lane reads and writes.
struct Work {
  std::vector<Bf16> rows;  // or two codes each
  std::vector<PackedMatrix> packed;
};

void Fill(const Case& c, uint64_t seed, Work& w) {
  SplitMix64 random(seed);
  std::vector<Bf16> table(4096);
  for (Bf16& x : table) x = ToBf16(random.Normal());
  w.rows.resize(static_cast<size_t>(kMatrices * kOutputs * kInputs * c.SourceBytes() / 2));
  for (size_t i = 0; i < w.rows.size(); i += 4) {
    const uint64_t bits = random.Next();
    for (size_t j = 0; j < 4; ++j) w.rows[i + j] = table[bits >> (16 * j) & 4095];
  }
  for (int m = 0; m < kMatrices; ++m)
    w.packed.push_back(std::move(*PackedMatrix::Allocate(c.layout, kOutputs, kInputs)));
}

template <class T>
void PackMatrix(const Case& c, const T* from, PackedMatrix& to) {
  const View<const T, 2> rows(from, {kOutputs, kInputs});
  const auto pack = [&](int64_t output, View<const T, 2> piece) {
    if constexpr (std::is_same_v<T, uint8_t>)
      to.PackCodes(output, piece);
    else
      to.Pack(output, piece);
  };
  constexpr int64_t kHalf = kPanelOutputs / 2;
  if (!c.halves) return pack(0, rows);
  for (int64_t half = 0; half < 2; ++half)
    for (int64_t r = 0; r < kOutputs / 2; r += kHalf)
      pack(2 * r + half * kHalf, rows.Rows(half * kOutputs / 2 + r, kHalf));
}

void PackAll(const Case& c, Work& w) {
  static const std::vector<float> scales(kOutputs * kInputs / 128, 1.0f);
  const int64_t outputs_per_scale = c.layout.scale_inputs == 0 ? 1 : 128;
  const int64_t scale_rows = kOutputs / outputs_per_scale;
  for (int m = 0; m < kMatrices; ++m) {
    PackedMatrix& to = w.packed[static_cast<size_t>(m)];
    const int64_t begin = m * kOutputs * kInputs;
    if (c.codes) {
      PackMatrix(c, reinterpret_cast<const uint8_t*>(w.rows.data()) + begin, to);
      to.SetScales(0, kOutputs, {scales.data(), {scale_rows, to.scale_blocks()}},
                   outputs_per_scale);
    } else {
      PackMatrix(c, w.rows.data() + begin, to);
    }
  }
}

void Measure(const Case& c, bench::ReadBandwidth& bandwidth, Team& team) {
  const bench::RunLanes run = [&](const auto& f) { team.Run(f); };
  const int lanes = team.lanes();
  std::vector<Work> work(static_cast<size_t>(lanes));
  run([&](int lane) { Fill(c, static_cast<uint64_t>(lane), work[static_cast<size_t>(lane)]); });
  const auto pack = [&](int lane) { PackAll(c, work[static_cast<size_t>(lane)]); };
  run(pack);  // touches every page
  const double matrices = double{kMatrices} * lanes;
  const double source = matrices * static_cast<double>(kOutputs * kInputs * c.SourceBytes());
  const double moved = source + matrices * static_cast<double>(work[0].packed[0].bytes());
  std::vector<double> rates, copies, shares;
  for (int i = 0; i < kRuns; ++i) {
    copies.push_back(2 * bandwidth.MeasureCopy(lanes, run));
    const double begin = bench::Now(lanes);
    run(pack);
    rates.push_back(moved / (bench::Now(lanes) - begin));
    shares.push_back(rates.back() / copies.back());
  }
  const double rate = bench::Median(rates);
  std::printf("%-35s %-13s %6.2f GB/s read, %6.2f moved, %5.1f %% of memcpy's %6.2f\n",
              LayoutName(c.layout).c_str(), c.Source(), rate * source / moved * 1e-9, rate * 1e-9,
              100 * bench::Median(shares), bench::Median(copies) * 1e-9);
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
  for (const bool halves : {false, true})
    for (const bool codes : {false, true})
      for (const WeightLayout& layout : kLayouts) {
        const Case c{layout, codes, halves};
        if (Exists(c) && LayoutName(layout).starts_with(only)) Measure(c, bandwidth, team);
      }
}
