// linear_bench [lanes [variant [least rows [format]]]]: products beside the machine's ceilings, of
// weights in bf16, fp8 (a scale per channel), fp8-block (128 x 128), int8, int4-64, int4-32z
// (groups, with zero points) or all of them; activations are floats. A run of a product and a run
// of its ceiling alternate; printed are medians, and the median of the paired shares: of the peak
// of the instruction that the variant is made of, and of the read bandwidth of the stored bytes.
// The floor of a product is the larger of flop / peak and bytes / bandwidth.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "base/random.h"
#include "bench/machine_ceilings.h"
#include "bench/peaks.h"
#include "formats/fp8/quantize.h"
#include "kernels/linear/linear.h"

namespace sluice {
namespace {

constexpr int kRuns = 11;

struct Size {
  int64_t rows, outputs, inputs;
};

// clang-format off
constexpr Size kSizes[] = {
    // rows outputs inputs
    {1,     8192,   4096},
    {1,     4096,   1024},
    {2,     8192,   4096},
    {4,     8192,   4096},
    {8,     8192,   4096},
    {16,    8192,   4096},
    {64,    4096,   4096},
    {512,   2048,   2048},
    {512,   4096,   4096},
    {512,   8192,   1024},
    {1024,  2048,   8192},
};
// clang-format on

struct Format {
  const char* name;
  WeightLayout layout;
};

// clang-format off
constexpr Format kFormats[] = {
    {"bf16",      {}},
    {"fp8",       {WeightFormat::kFp8E4M3, 0}},
    {"fp8-block", {WeightFormat::kFp8E4M3, 128}},
    {"int8",      {WeightFormat::kInt8}},
    {"int4-64",   {WeightFormat::kInt4, 64}},
    {"int4-32z",  {WeightFormat::kInt4, 32, true}},
};
// clang-format on

PackedMatrix MakeMatrix(const Size& size, WeightLayout layout, View<const float, 2> rows) {
  PackedMatrix weight = std::move(*PackedMatrix::Allocate(layout, size.outputs, size.inputs));
  if (layout.format != WeightFormat::kFp8E4M3) {
    for (int64_t o = 0; o < size.outputs; o += rows.dim(0)) weight.Pack(o, rows);
    return weight;
  }
  const Fp8Quantized q = layout.scale_inputs ? QuantizeFp8Block(rows) : QuantizeFp8Channel(rows);
  for (int64_t o = 0; o < size.outputs; o += rows.dim(0)) {
    weight.PackCodes(o, q.Codes());
    weight.SetScales(o, rows.dim(0), q.Scales(), q.scale_rows);
  }
  return weight;
}

// Enough copies of the weights that none is still in a cache when its turn comes again.
std::vector<PackedMatrix> MakeWeights(const Size& size, WeightLayout layout) {
  constexpr uint64_t kColdBytes = 192 << 20;
  const uint64_t bytes = PackedMatrix::Bytes(layout, size.outputs, size.inputs);
  std::vector<PackedMatrix> weights;
  SplitMix64 random(1);
  std::vector<float> rows(128 * size.inputs);
  for (float& x : rows) x = random.Normal();
  for (uint64_t done = 0; done < kColdBytes || weights.size() < 2; done += bytes)
    weights.push_back(MakeMatrix(size, layout, {rows.data(), {128, size.inputs}}));
  return weights;
}

void Measure(const Variant<LinearArgs>& variant, const char* format, const Size& size,
             const std::vector<PackedMatrix>& weights, const bench::ReadBandwidth& bandwidth,
             Exec& exec) {
  std::vector<float> x(size.rows * size.inputs, 0.5f), y(size.rows * size.outputs);
  const bench::RunLanes run = [&](const auto& f) { exec.team.Run(f); };
  const int lanes = exec.team.lanes();
  const double flop = 2.0 * size.rows * size.outputs * size.inputs;
  const double bytes = static_cast<double>(weights[0].bytes());
  // As many products per run as take about as long as a ceiling does.
  const int repeats = std::max(1, static_cast<int>(std::min(2e8 / bytes, 4e9 / flop)));
  const bench::PeakLoop& peak = bench::PeakOfKernel(variant.name);
  std::vector<double> seconds, flops, reads, flop_shares, read_shares;
  size_t next = 0;
  for (int i = 0; i < kRuns; ++i) {
    flops.push_back(bench::MeasurePeak(peak, bench::Feed::kRegisters, lanes, run));
    reads.push_back(bandwidth.Measure(lanes, run));
    const double begin = bench::Now(lanes);
    for (int r = 0; r < repeats; ++r)
      variant.run({.x = {x.data(), {size.rows, size.inputs}},
                   .weight = &weights[next++ % weights.size()],
                   .rounding = Rounding::kBf16,
                   .bf16_inputs = true,
                   .y = {y.data(), {size.rows, size.outputs}}},
                  exec);
    seconds.push_back((bench::Now(lanes) - begin) / repeats);
    flop_shares.push_back(flop / seconds.back() / flops.back());
    read_shares.push_back(bytes / seconds.back() / reads.back());
  }
  const double s = bench::Median(seconds);
  std::printf(
      "%-11s %-9s %5ld x %5ld x %5ld %9.3f ms %7.1f GFLOP/s %5.1f %% of %6.1f %7.2f GB/s %5.1f %% "
      "of "
      "%5.1f\n",
      variant.name, format, size.rows, size.outputs, size.inputs, s * 1e3, flop / s * 1e-9,
      100 * bench::Median(flop_shares), bench::Median(flops) * 1e-9, bytes / s * 1e-9,
      100 * bench::Median(read_shares), bench::Median(reads) * 1e-9);
  std::fflush(stdout);
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  using namespace sluice;
  const int lanes = argc > 1 ? std::max(1, std::atoi(argv[1])) : UsableCores();
  const std::string only = argc > 2 ? argv[2] : "";
  const int64_t rows_min = argc > 3 ? std::atoll(argv[3]) : 0;
  const std::string only_format = argc > 4 ? argv[4] : "";
  const PinnedCaller pinned;
  Team team(lanes, true);
  Arena scratch(std::move(*Buffer::Allocate(1 << 20, "bench scratch")));
  Exec exec{team, ThisMachine(), scratch};
  bench::ReadBandwidth bandwidth;
  std::printf("%s, %d lanes, %s\nvariant     format     rows  outputs  inputs\n",
              ProcessorName().c_str(), lanes, DescribeFeatures(ThisMachine()).c_str());
  for (const Size& size : kSizes) {
    if (size.rows < rows_min) continue;
    for (const Format& format : kFormats) {
      if (!only_format.empty() && only_format != format.name) continue;
      const auto weights = MakeWeights(size, format.layout);
      for (const auto& variant : LinearVariants())
        if (ThisMachine().Has(variant.needs) && variant.needs != kAnything &&
            (only.empty() || only == variant.name))
          Measure(variant, format.name, size, weights, bandwidth, exec);
    }
  }
}
