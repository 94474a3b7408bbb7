// mla_bench: decode and prefill of one MLA layer at Ling-2.6-flash widths. Latents of 16 contexts
// of 8k tokens (150 MB) lie in memory; a single sequence takes turns through them.
#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "kernels/mla/mla.h"

namespace sluice {
namespace {

constexpr MlaShape kShape = {32, 128, 64, 128, 512};
constexpr int64_t kContexts = 16, kContextMax = 8192, kWidth = kShape.latent + kShape.rope;
constexpr int64_t kPageBytes = kKvPageTokens * kWidth * 2;

// One lane is timed by the thread's processor time, which neighbours disturb less.
double Seconds(const Team& team) {
  if (team.lanes() > 1) return MonotonicSeconds();
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct Layer {
  Buffer pool;
  MlaWeights weights;
  std::vector<int32_t> pages[kContexts];
};

Result<Layer> MakeLayer() {
  Layer layer;
  const int64_t pages = kContexts * kContextMax / kKvPageTokens;
  TRY(layer.pool, Buffer::Allocate(pages * kPageBytes, "pages"));
  TRY(layer.weights, MlaWeights::Allocate(kShape));
  SplitMix64 random(1);
  Bf16* pool = reinterpret_cast<Bf16*>(layer.pool.data());
  for (int64_t i = 0; i < pages * kPageBytes / 2; ++i)
    pool[i] = {static_cast<uint16_t>(0x3c00 + (random.Next() & 0x81ff))};  // +-0.008 to 0.03
  const int64_t rows = kShape.heads * (kShape.nope + kShape.value);
  std::vector<float> kv_b(rows * kShape.latent);
  for (float& x : kv_b) x = 0.05f * static_cast<float>(random.Uniform() - 0.5);
  layer.weights.Pack(View<const float, 2>(kv_b.data(), {rows, kShape.latent}));
  for (int64_t p = 0; p < pages; ++p)  // neighbours in a context lie far apart
    layer.pages[p % kContexts].push_back(static_cast<int32_t>(p));
  return layer;
}

struct Load {
  int64_t sequences, rows, position;
  bool prompt;
};

double Time(const Variant<MlaArgs>& variant, Layer& layer, const Load& load, Team& team) {
  const int64_t total = load.sequences * load.rows;
  std::vector<float> q(total * kShape.heads * (kShape.nope + kShape.rope));
  std::vector<float> out(total * kShape.heads * kShape.value);
  SplitMix64 random(2);
  for (float& x : q) x = RoundToBf16(random.Normal());
  auto scratch = Buffer::Allocate(MlaScratchBytes(kShape, total, team.lanes()), "scratch");
  CHECK(scratch.ok());
  std::memset(scratch->data(), 0, scratch->size());
  Arena arena(std::move(*scratch));
  Exec exec{team, ThisMachine(), arena};
  static int64_t turn = 0;
  std::vector<MlaSequence> s;
  for (int64_t i = 0; i < load.sequences; ++i)
    s.push_back({i * load.rows, load.rows, load.position, load.prompt ? int64_t{1} << 40 : 0,
                 layer.pages[turn++ % kContexts].data()});
  const double begin = Seconds(team);
  variant.run({kShape,
               0.0721687836f,
               {q.data(), {total, kShape.heads, kShape.nope + kShape.rope}},
               &layer.weights,
               {layer.pool.data(), kPageBytes, DType::kBf16},
               s,
               Rounding::kBf16,
               true,
               {out.data(), {total, kShape.heads, kShape.value}}},
              exec);
  return Seconds(team) - begin;
}

void Run(const Variant<MlaArgs>& variant, Layer& layer, const Load& load, Team& team) {
  double best = 1e9;
  for (int repeat = 0; repeat < (load.rows > 1 ? 2 : 6); ++repeat)
    best = std::min(best, Time(variant, layer, load, team));
  // Products of the algorithm as it runs: expansion counts for prompts, both absorptions otherwise.
  const double rows = static_cast<double>(load.sequences * load.rows);
  const double length =
      static_cast<double>(load.position) + 0.5 * (static_cast<double>(load.rows) + 1);
  const double expand = static_cast<double>(load.sequences * (load.position + load.rows)) *
                        (kShape.nope + kShape.value) * kShape.latent;
  const double products = load.prompt
                              ? expand + rows * length * (kShape.nope + kShape.rope + kShape.value)
                              : rows * (length * (kWidth + kShape.latent) +
                                        (kShape.nope + kShape.value) * kShape.latent);
  const double bytes =
      static_cast<double>(load.sequences * (load.position + load.rows)) * kWidth * 2;
  fmt::print(
      "{:8} {} lanes  {}  {:3} x {:3} rows at {:5}  {:9.1f} us  {:6.1f} GFLOP/s  {:5.1f} GB/s\n",
      variant.name, team.lanes(), load.prompt ? "prompt   " : "generated", load.sequences,
      load.rows, load.position, best * 1e6, 2 * kShape.heads * products / best * 1e-9,
      bytes / best * 1e-9);
  std::fflush(stdout);
}

void Bench(int lanes_max) {
  auto layer = MakeLayer();
  CHECK(layer.ok());
  for (int lanes = 1; lanes <= lanes_max; lanes *= 2) {
    Team team(lanes);
    for (const auto& variant : MlaVariants()) {
      if (variant.needs == kAnything) continue;
      for (int64_t position : {1024 - 1, 8192 - 1})
        for (int64_t sequences : {1, 16})
          Run(variant, *layer, {sequences, 1, position, false}, team);
      for (int64_t position : {0, 8192 - 512}) Run(variant, *layer, {1, 512, position, true}, team);
    }
  }
}

}  // namespace
}  // namespace sluice

// The argument: lanes at most (1, 2, 4, ... are measured).
int main(int argc, char** argv) {
  sluice::Bench(argc > 1 ? std::atoi(argv[1]) : sluice::UsableCores());
}
