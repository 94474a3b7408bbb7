// moe_sm90_roofs: what this GPU reaches at all, medians of 21: dense products of the sizes of a
// layer, reading and copying memory, feeding multiprocessors from memory and L2.
#include <cuda_runtime.h>
#include <fmt/core.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "kernels/moe/cuda_sm90/device_moe.h"
#include "kernels/moe/cuda_sm90/roofs.h"

namespace sluice::moe_sm90 {
namespace {

Result<double> MedianOf(const std::function<Result<double>()>& measure) {
  constexpr int kRuns = 21, kWarmUp = 3;
  std::vector<double> rates;
  for (int i = 0; i < kRuns + kWarmUp; ++i) {
    TRY(const double rate, measure());
    if (i >= kWarmUp) rates.push_back(rate);
  }
  std::sort(rates.begin(), rates.end());
  return rates[kRuns / 2];
}

Status Run() {
  cudaStream_t stream;
  if (const cudaError_t error = cudaStreamCreate(&stream); error != cudaSuccess)
    return Error(Code::kInternal, "stream: {}", cudaGetErrorString(error));
  TRY(const auto roofs, DeviceRoofs::Make(stream));
  constexpr struct {
    int m, n, k;
    const char* what;
  } kProducts[] = {{kRoofSize, kRoofSize, kRoofSize, "the roof"},
                   {4096, 4096, 8192, "gate and up of Ling-2.6-1T, 4,096 rows"},
                   {4096, 8192, 2048, "down of the same"},
                   {1024, 1536, 2048, "gate and up of Qwen3-30B-A3B, 1,024 rows"}};
  for (const Element element : {Element::kBf16, Element::kFp8})
    for (const auto& p : kProducts) {
      const auto rate = MedianOf([&] { return roofs->Product(element, p.m, p.n, p.k); });
      fmt::print(
          "{:4} {:5} x {:5} x {:5} {}  ({})\n", element == Element::kFp8 ? "fp8" : "bf16", p.m, p.n,
          p.k, rate.ok() ? fmt::format("{:7.1f} TFLOP/s", *rate * 1e-12) : rate.status().message(),
          p.what);
    }
  TRY(const double read, MedianOf([&] { return roofs->Read(); }));
  TRY(const double copy, MedianOf([&] { return roofs->Copy(); }));
  fmt::print("read {:.2f} TB/s, copy {:.2f} TB/s (read and written)\n", read * 1e-12, copy * 1e-12);
  std::fflush(stdout);  // a probe that hangs ends the context
  using Source = DeviceRoofs::Source;
  constexpr struct {
    Source source;
    const char* what;
  } kStreams[] = {{Source::kMemory, "memory"},
                  {Source::kL2, "L2, all the same tiles"},
                  {Source::kL2Multicast, "L2, a tile for two multiprocessors"}};
  for (const auto& [source, what] : kStreams)
    for (const int stages : {2, 3, 4, 6}) {
      TRY(const double rate, MedianOf([&, s = source] { return roofs->Stream(s, stages); }));
      fmt::print("bulk copies into shared memory, {} x 32 KiB under way: {:.2f} TB/s from {}\n",
                 stages, rate * 1e-12, what);
      std::fflush(stdout);
    }
  return Status();
}

int Main() {
  Status status = CheckDevice();
  if (!status.ok()) {
    fmt::print("{}\n", status.message());
    return 0;
  }
  status = Run();
  if (status.ok()) return 0;
  fmt::print(stderr, "moe_sm90_roofs: {}\n", status.message());
  return 1;
}

}  // namespace
}  // namespace sluice::moe_sm90

int main() { return sluice::moe_sm90::Main(); }
