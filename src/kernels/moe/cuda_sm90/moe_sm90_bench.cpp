// moe_sm90_bench [CASE ...]: both back ends on the layers of known models, random weights and rows,
// uniform routing unless the case says otherwise; graph replays, medians of 21, L2 overwritten
// before each run. One line a case:
//   ms (least - most), TFLOP/s, TB/s of the active experts' weights, share of the floor; the floor
//   is max(FLOP / rate, weight bytes / bandwidth) with the rates that moe_sm90_roofs prints, given
//   as SLUICE_ROOFS="BF16_TFLOPS FP8_TFLOPS TBPS" or taken to be 790, 1580 and 4.3.
// An error of fused_v2 against epmoe on the same data stands beside it: a bench of wrong results
// would measure nothing.
#include <cuda_runtime.h>
#include <fmt/core.h>

#include <cmath>
#include <cstring>
#include <set>
#include <string>

#include "base/random.h"
#include "kernels/moe/cuda_sm90/bench_timing.h"
#include "kernels/moe/cuda_sm90/device_moe.h"
#include "tensor/dtype.h"

namespace sluice::moe_sm90 {
namespace {

enum class Routing { kUniform, kZipf, kOneHot };

struct Layer {
  const char* name;
  int experts, top_k, hidden, intermediate, shared;
};
// Ling-2.6-1T, the share of one of 32 devices: 8 experts; top_k 1 makes as many routed rows as
// shared ones.
constexpr Layer kLing{"ling-1t/32", 8, 1, 8192, 2048, 2048};
constexpr Layer kQwen{"qwen3-30b", 128, 8, 2048, 768, 0};
constexpr Layer kMini{"ling-mini", 256, 8, 2048, 512, 512};

struct Case {
  Layer layer;
  int tokens;
  Element element;
  Routing routing = Routing::kUniform;
  int ranks = 1;
};

struct Roofs {
  double bf16 = 790, fp8 = 1580, bandwidth = 4.3;  // TFLOP/s, TFLOP/s, TB/s
};

Roofs RoofsFromEnvironment() {
  Roofs roofs;
  if (const char* text = std::getenv("SLUICE_ROOFS"))
    std::sscanf(text, "%lf %lf %lf", &roofs.bf16, &roofs.fp8, &roofs.bandwidth);
  return roofs;
}

std::string NameOf(const Case& c) {
  constexpr const char* kRoutings[] = {"", "/zipf", "/one-hot"};
  return fmt::format("{}/{}/{}{}{}", c.layer.name, c.element == Element::kFp8 ? "fp8" : "bf16",
                     c.tokens, kRoutings[static_cast<int>(c.routing)],
                     c.ranks > 1 ? fmt::format("/{}-ranks", c.ranks) : "");
}

std::vector<Case> AllCases() {
  std::vector<Case> cases;
  for (const Element element : {Element::kFp8, Element::kBf16}) {
    cases.push_back({kLing, 4096, element});
    cases.push_back({kLing, 128, element});
    for (const int tokens : {1, 4, 16, 64, 256, 1024, 4096, 16384})
      cases.push_back({kQwen, tokens, element});
    for (const int tokens : {16, 4096}) cases.push_back({kMini, tokens, element});
    for (const Routing routing : {Routing::kZipf, Routing::kOneHot})
      cases.push_back({kQwen, 4096, element, routing});
    for (const int ranks : {4, 8})
      cases.push_back({kLing, 4096, element, Routing::kUniform, ranks});
  }
  return cases;
}

// Distinct experts of each token; zipf: expert e with weight 1 / (e + 1); one-hot: expert 0 is one
// of everybody's.
std::vector<int32_t> Route(const Case& c, SplitMix64& random) {
  std::vector<double> ends;
  double sum = 0;
  for (int e = 0; e < c.layer.experts; ++e)
    ends.push_back(sum += c.routing == Routing::kZipf ? 1.0 / (e + 1) : 1.0);
  std::vector<int32_t> ids;
  for (int t = 0; t < c.tokens; ++t) {
    std::set<int32_t> chosen;
    if (c.routing == Routing::kOneHot) chosen.insert(0);
    while (static_cast<int>(chosen.size()) < c.layer.top_k) {
      const double at = random.Uniform() * sum;
      chosen.insert(
          static_cast<int32_t>(std::upper_bound(ends.begin(), ends.end(), at) - ends.begin()));
    }
    ids.insert(ids.end(), chosen.begin(), chosen.end());
  }
  return ids;
}

template <class T>
DeviceBuffer ToDevice(const std::vector<T>& host) {
  auto buffer = DeviceBuffer::Allocate(host.size() * sizeof(T), "bench data");
  if (!buffer.ok()) Must(cudaErrorMemoryAllocation, buffer.status().message().c_str());
  Must(cudaMemcpy(buffer->data(), host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice),
       "bench data");
  return std::move(*buffer);
}

struct Data {
  DeviceBuffer x, ids, weights, y;
  std::vector<RankArgs> ranks;
  int active = 0;  // experts with rows
};

Data MakeData(const Case& c) {
  SplitMix64 random(static_cast<uint64_t>(c.tokens));
  const std::vector<int32_t> ids = Route(c, random);
  std::vector<Bf16> x(static_cast<size_t>(c.tokens) * c.layer.hidden);
  for (Bf16& value : x) value = ToBf16(static_cast<float>(random.Uniform() * 4 - 2));
  Data data;
  data.active = static_cast<int>(std::set(ids.begin(), ids.end()).size());
  data.x = ToDevice(x);
  data.ids = ToDevice(ids);
  data.weights = ToDevice(std::vector<float>(ids.size(), 1.0f / static_cast<float>(c.layer.top_k)));
  data.y = ToDevice(std::vector<Bf16>(x.size()));
  for (int r = 0; r < c.ranks; ++r) {
    const int64_t begin = int64_t{c.tokens} * r / c.ranks;
    const int64_t end = int64_t{c.tokens} * (r + 1) / c.ranks;
    data.ranks.push_back({.tokens = static_cast<int>(end - begin),
                          .x = data.x.data<Bf16>() + begin * c.layer.hidden,
                          .ids = data.ids.data<int32_t>() + begin * c.layer.top_k,
                          .weights = data.weights.data<float>() + begin * c.layer.top_k,
                          .y = data.y.data<Bf16>() + begin * c.layer.hidden});
  }
  return data;
}

class Bench {
 public:
  Bench() {
    int l2_bytes = 0;
    Must(cudaDeviceGetAttribute(&l2_bytes, cudaDevAttrL2CacheSize, 0), "L2");
    flush_ = ToDevice(std::vector<char>(static_cast<size_t>(l2_bytes) * 2));
    Must(cudaStreamCreate(&stream_), "stream");
  }
  ~Bench() { cudaStreamDestroy(stream_); }

  void Run(const Case& c) {
    const MoeShape shape{.element = c.element,
                         .ranks = c.ranks,
                         .experts = c.layer.experts,
                         .top_k = c.layer.top_k,
                         .hidden = c.layer.hidden,
                         .intermediate = c.layer.intermediate,
                         .shared_intermediate = c.layer.shared,
                         .tokens_max = (c.tokens + c.ranks - 1) / c.ranks};
    auto weights = DeviceWeights::Random(shape, 1);
    if (!weights.ok()) return Refuse(c, weights.status());
    const Data data = MakeData(c);
    std::vector<Bf16> plain;
    if (c.ranks == 1) Measure(c, data, MakePlainMoe(shape, *weights), plain);
    std::vector<Bf16> fused;
    Measure(c, data, MakeFusedMoe(shape, *weights), fused);
    if (!plain.empty() && !fused.empty()) PrintError(plain, fused);
  }

 private:
  static void Refuse(const Case& c, const Status& status) {
    fmt::print("{:32} {}\n", NameOf(c), status.message());
  }
  static void PrintError(const std::vector<Bf16>& expected, const std::vector<Bf16>& actual) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      const double e = ToFloat(expected[i]), a = ToFloat(actual[i]);
      difference += (a - e) * (a - e);
      norm += e * e;
    }
    const double error = std::sqrt(difference / norm);
    fmt::print("{:43} error {:.1e}{}\n", "", error, error <= 8e-3 ? "" : "  WRONG");
  }

  void Measure(const Case& c, const Data& data, Result<std::unique_ptr<DeviceMoe>> made,
               std::vector<Bf16>& y) {
    if (!made.ok()) return Refuse(c, made.status());
    DeviceMoe& moe = **made;
    const Status first = moe.Run(data.ranks, stream_);
    const cudaError_t ran = cudaStreamSynchronize(stream_);
    if (!first.ok() || ran != cudaSuccess) {
      fmt::print("{:32} {:10} {} {} {}\n", NameOf(c), moe.name(), first.message(),
                 cudaGetErrorString(ran), moe.FaultText());
      if (ran != cudaSuccess) std::exit(1);  // the context is gone
      return;
    }
    y.resize(static_cast<size_t>(c.tokens) * c.layer.hidden);
    Must(cudaMemcpy(y.data(), data.y.data(), y.size() * sizeof(Bf16), cudaMemcpyDeviceToHost),
         "results");
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t replay = nullptr;
    Must(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal), "capture");
    const Status captured = moe.Run(data.ranks, stream_);
    Must(cudaStreamEndCapture(stream_, &graph), "capture");
    if (!captured.ok()) return Refuse(c, captured);
    Must(cudaGraphInstantiate(&replay, graph, 0), "graph");
    const Times times = TimeRuns(
        stream_, 21,
        [&] { Must(cudaMemsetAsync(flush_.data(), 1, flush_.bytes(), stream_), "flush"); },
        [&] { Must(cudaGraphLaunch(replay, stream_), "replay"); });
    cudaGraphExecDestroy(replay);
    cudaGraphDestroy(graph);
    Print(c, data, moe, times);
  }

  void Print(const Case& c, const Data& data, const DeviceMoe& moe, const Times& times) const {
    const double h = c.layer.hidden, i = c.layer.intermediate, s = c.layer.shared;
    const double flop = 6 * h * c.tokens * (c.layer.top_k * i + s);
    const double bytes =
        3 * h * (data.active * i + s * (c.ranks > 1 ? c.ranks : 1)) * ElementBytes(c.element);
    const double rate = c.element == Element::kFp8 ? roofs_.fp8 : roofs_.bf16;
    const double floor_ms = std::max(flop / rate, bytes / roofs_.bandwidth) / 1e9;
    fmt::print("{:32} {:10} {:8.4f} ms ({:.4f} - {:.4f}) {:7.1f} TFLOP/s {:5.2f} TB/s {:4.0f} %\n",
               NameOf(c), moe.name(), times.median, times.least, times.most,
               flop / times.median / 1e9, bytes / times.median / 1e9,
               100 * floor_ms / times.median);
  }

  Roofs roofs_ = RoofsFromEnvironment();
  DeviceBuffer flush_;
  cudaStream_t stream_ = nullptr;
};

int Main(int argc, char** argv) {
  if (const Status device = CheckDevice(); !device.ok()) {
    fmt::print("{}\n", device.message());
    return 0;
  }
  Bench bench;
  for (const Case& c : AllCases()) {
    bool wanted = argc == 1;
    for (int i = 1; i < argc; ++i) wanted |= NameOf(c).starts_with(argv[i]);
    if (wanted) bench.Run(c);
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace sluice::moe_sm90

int main(int argc, char** argv) { return sluice::moe_sm90::Main(argc, argv); }
