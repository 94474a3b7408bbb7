// gla_bench: decode and prefill of one linear-attention layer at Ling-2.6-flash widths. States lie
// in memory, as in a model: calls walk over many layers.
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "kernels/gla/gla.h"

namespace sluice {
namespace {

constexpr int64_t kHeads = 32, kDim = 128;
constexpr int64_t kStateFloats = kHeads * kDim * kDim, kBufferElements = kHeads * kGlaBlock * kDim;

double Seconds(const Team& team) {
  if (team.lanes() > 1) return MonotonicSeconds();
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// The memory of one layer for one request.
struct LayerMemory {
  std::vector<float> state, keys;
  std::vector<Bf16> values;
};

// The median of one call over the layers. One lane is timed by the thread's processor time, which
// neighbours disturb less.
double Time(const Variant<GlaArgs>& variant, std::vector<LayerMemory>& memory, int64_t sequences,
            int64_t rows, int64_t position, Team& team) {
  const int64_t total = sequences * rows;
  std::vector<float> q(total * kHeads * kDim), out(q.size()), decay(kHeads, -0.05f);
  SplitMix64 random(1);
  for (float& x : q) x = RoundToBf16(random.Normal());
  const View<const float, 3> in(q.data(), {total, kHeads, kDim});
  Arena scratch;
  Exec exec{team, ThisMachine(), scratch};
  const int64_t layers = static_cast<int64_t>(memory.size()) / sequences;
  std::vector<double> times;
  for (int64_t layer = 0; layer < layers; ++layer) {
    std::vector<GlaSequence> s;
    for (int64_t i = 0; i < sequences; ++i) {
      LayerMemory& m = memory[layer * sequences + i];
      s.push_back({i * rows, rows, position, m.state.data(), m.keys.data(), m.values.data()});
    }
    const double begin = Seconds(team);
    variant.run(
        {in, in, in, decay.data(), 0.088f, DType::kBf16, s, {out.data(), {total, kHeads, kDim}}},
        exec);
    times.push_back(Seconds(team) - begin);
  }
  std::nth_element(times.begin(), times.begin() + layers / 2, times.end());
  return times[layers / 2];
}

void Bench(int lanes_max) {
  fmt::print("block of {} tokens, {} heads of {}; buffers {:.0f} % of the state\n", kGlaBlock,
             kHeads, kDim, 100.0 * static_cast<double>(kBufferElements * 6) / (kStateFloats * 4));
  std::vector<LayerMemory> memory(64);
  for (LayerMemory& m : memory) {
    m.state.assign(kStateFloats, 0.01f);
    m.keys.assign(kBufferElements, 0.01f);
    m.values.assign(kBufferElements, ToBf16(0.01f));
  }
  for (int lanes = 1; lanes <= lanes_max; lanes *= 2) {
    Team team(lanes);
    for (const auto& variant : GlaVariants()) {
      if (variant.needs == kAnything) continue;
      for (int64_t sequences : {1, 16}) {
        double sum = 0;  // one whole block of steps, the one that advances the state among them
        for (int64_t i = 0; i < kGlaBlock; ++i)
          sum += Time(variant, memory, sequences, 1, 64 * 100 + i, team);
        const double seconds = sum / kGlaBlock;
        const double states = static_cast<double>(sequences * kStateFloats * 4);
        const double buffers = static_cast<double>(sequences * kBufferElements * 6) / 2;
        fmt::print("{:8} {} lanes  decode  {:3} sequences  {:8.1f} us/layer  {:6.1f} GB/s\n",
                   variant.name, lanes, sequences, seconds * 1e6,
                   (states * (1 + 2.0 / kGlaBlock) + buffers) / seconds * 1e-9);
      }
      std::vector<LayerMemory> few(memory.begin(), memory.begin() + 5);
      const double best = Time(variant, few, 1, 512, 64 * 100, team);
      const double flops = 512.0 * kHeads * 2 * (2 * kDim * kDim + kGlaBlock * kDim);
      fmt::print("{:8} {} lanes  prefill 512 rows       {:8.1f} us/layer  {:6.1f} GFLOP/s\n",
                 variant.name, lanes, best * 1e6, flops / best * 1e-9);
    }
  }
}

}  // namespace
}  // namespace sluice

// The argument: lanes at most (1, 2, 4, ... are measured).
int main(int argc, char** argv) {
  sluice::Bench(argc > 1 ? std::atoi(argv[1]) : sluice::UsableCores());
}
