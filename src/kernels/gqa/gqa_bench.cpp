// gqa_bench [lanes [kernel [model [pick]]]]: one layer's attention beside the machine's ceilings. A
// run and its ceilings alternate; printed are medians, and the median of the paired shares of the
// roofline max(bytes of keys and values / read bandwidth, operations / FMA peak). The keys and
// values of 8 contexts of 8,192 tokens lie in memory; a run takes those that were not read lately.
// `model` and `pick` (a row below, "decode" say) limit what is measured.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "bench/machine_ceilings.h"
#include "kernels/gqa/gqa.h"

namespace sluice {
namespace {

constexpr int64_t kContexts = 8, kContextMax = 8192;

struct Model {
  const char* name;
  GqaShape shape;
  float softcap;
  int64_t temperature_length;
};

// clang-format off
constexpr Model kModels[] = {
    // name            heads kv_heads head_dim  softcap temperature_length
    {"ling-mini-2.0",  {16,  4,       128},     0,      0},
    {"qwen3-30b-a3b",  {32,  4,       128},     0,      0},
    {"grok-2",         {64,  8,       128},     30,     1024},
};

struct Load {
  const char* name;
  int64_t sequences, rows, position;
  int runs;
};
constexpr Load kLoads[] = {
    // name            sequences rows  position          runs
    {"decode-1-1k",    1,        1,    1023,             15},
    {"decode-8-1k",    8,        1,    1023,             11},
    {"decode-1-8k",    1,        1,    kContextMax - 1,  11},
    {"decode-8-8k",    8,        1,    kContextMax - 1,  7},
    {"draft-1-8k",     1,        4,    kContextMax - 4,  7},
    {"prefill-0",      1,        512,  0,                7},
    {"prefill-7680",   1,        512,  7680,             3},
};
// clang-format on

struct Layer {
  Buffer pool;
  int64_t page_bytes;
  std::vector<int32_t> pages[kContexts];
};

Layer MakeLayer(const GqaShape& shape) {
  Layer layer;
  layer.page_bytes = kKvPageTokens * 2 * shape.kv_heads * shape.head_dim * 2;
  const int64_t pages = kContexts * kContextMax / kKvPageTokens;
  layer.pool = std::move(*Buffer::Allocate(pages * layer.page_bytes, "pages"));
  SplitMix64 random(1);
  auto* values = reinterpret_cast<uint64_t*>(layer.pool.data());
  for (int64_t i = 0; i < pages * layer.page_bytes / 8; ++i)  // +-0.008 to 0.03
    values[i] = 0x3c003c003c003c00 + (random.Next() & 0x81ff81ff81ff81ff);
  for (int64_t p = 0; p < pages; ++p)  // neighbours in a context lie far apart
    layer.pages[p % kContexts].push_back(static_cast<int32_t>(p));
  return layer;
}

void Measure(const Variant<GqaArgs>& variant, const Model& model, const Load& load,
             const Layer& layer, const bench::ReadBandwidth& bandwidth, Team& team) {
  const GqaShape& shape = model.shape;
  const int64_t total = load.sequences * load.rows;
  std::vector<float> q(total * shape.heads * shape.head_dim), out(q.size());
  SplitMix64 random(2);
  for (float& x : q) x = RoundToBf16(random.Normal());
  auto scratch = Buffer::Allocate(GqaScratchBytes(shape, total, team.lanes()), "scratch");
  std::memset(scratch->data(), 0, scratch->size());
  Arena arena(std::move(*scratch));
  Exec exec{team, ThisMachine(), arena};
  const int lanes = team.lanes();
  const bench::RunLanes run = [&](const auto& f) { team.Run(f); };
  const double length = static_cast<double>(load.position + load.rows);
  const double bytes = load.sequences * length * 4 * shape.kv_heads * shape.head_dim;
  const double seen = static_cast<double>(load.position) + 0.5 * (load.rows + 1);
  const double flop = 4.0 * total * seen * shape.heads * shape.head_dim;
  std::vector<double> seconds, shares, reads, flops;
  int64_t turn = 0;
  for (int i = 0; i < load.runs; ++i) {
    std::vector<GqaSequence> sequences;
    for (int64_t s = 0; s < load.sequences; ++s)
      sequences.push_back(
          {s * load.rows, load.rows, load.position, layer.pages[turn++ % kContexts].data()});
    flops.push_back(bench::FmaFlops(lanes, run));
    reads.push_back(bandwidth.Measure(lanes, run));  // and empties the caches
    const double begin = bench::Now(lanes);
    variant.run({.shape = shape,
                 .scale = 0.0883883476f,
                 .softcap = model.softcap,
                 .temperature_length = model.temperature_length,
                 .q = {q.data(), {total, shape.heads, shape.head_dim}},
                 .cache = {layer.pool.data(), layer.page_bytes, DType::kBf16},
                 .sequences = sequences,
                 .rounding = Rounding::kBf16,
                 .bf16_inputs = true,
                 .out = {out.data(), {total, shape.heads, shape.head_dim}}},
                exec);
    seconds.push_back(bench::Now(lanes) - begin);
    shares.push_back(std::max(bytes / reads.back(), flop / flops.back()) / seconds.back());
  }
  const double s = bench::Median(seconds);
  std::printf(
      "%-7s %-14s %-13s %9.3f ms %6.1f GB/s of %5.1f (%3.0f %%) %6.1f GFLOP/s of %6.1f (%3.0f %%), "
      "share %3.0f %%\n",
      variant.name, model.name, load.name, s * 1e3, bytes / s * 1e-9, bench::Median(reads) * 1e-9,
      100 * bytes / s / bench::Median(reads), flop / s * 1e-9, bench::Median(flops) * 1e-9,
      100 * flop / s / bench::Median(flops), 100 * bench::Median(shares));
  std::fflush(stdout);
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  using namespace sluice;
  const int lanes = argc > 1 ? std::max(1, std::atoi(argv[1])) : UsableCores();
  const auto chosen = [&](int at, const char* name) {
    return argc <= at || std::string_view(name).find(argv[at]) != std::string_view::npos;
  };
  const PinnedCaller pinned;
  Team team(lanes, true);
  bench::ReadBandwidth bandwidth;
  std::printf("%s, %d lanes\n", ProcessorName().c_str(), lanes);
  for (const Model& model : kModels) {
    if (!chosen(3, model.name)) continue;
    const Layer layer = MakeLayer(model.shape);
    for (const auto& variant : GqaVariants())
      for (const Load& load : kLoads)
        if (variant.needs != kAnything && chosen(2, variant.name) && chosen(4, load.name))
          Measure(variant, model, load, layer, bandwidth, team);
  }
}
