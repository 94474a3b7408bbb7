#include "bench/unpack.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "formats/weight_format.h"
#include "tensor/arena.h"

namespace sluice::bench {
namespace {

constexpr int64_t kSourceBytes = 256 << 10;  // more than L1, half of the smallest L2 in use
constexpr int64_t kTotalBytes = 64 << 20;    // of all passes of a lane
constexpr int64_t kBlockBytes = kUnpackInputs * kPanelOutputs * 2;

}  // namespace

std::span<const UnpackLoop> UnpackLoops() {
  static const std::vector<UnpackLoop> all = [] {
    std::vector<UnpackLoop> loops;
    for (const auto part : {Avx2UnpackLoops(), Avx512UnpackLoops(), Avx512VbmiUnpackLoops()})
      loops.insert(loops.end(), part.begin(), part.end());
    std::stable_sort(loops.begin(), loops.end(), [](const UnpackLoop& a, const UnpackLoop& b) {
      return std::string_view(a.format) < b.format;
    });
    return loops;
  }();
  return all;
}

double MeasureUnpack(const UnpackLoop& loop, int lanes, const RunLanes& run) {
  // In a page of 2 MiB, so that the source lies in one piece in a physically indexed L2.
  std::vector<Buffer> memory(static_cast<size_t>(lanes));
  for (Buffer& buffer : memory) {
    auto made = Buffer::Allocate(2 << 20, "unpack source");
    CHECK(made.ok());  // 2 MiB of address space a lane
    buffer = std::move(*made);
  }
  const int64_t slices = kSourceBytes / loop.slice_bytes;
  const auto passes = [&](int lane, int64_t count) {
    std::byte* const block = memory[static_cast<size_t>(lane)].data();
    const std::byte* const source = block + kBlockBytes;
    for (int64_t pass = 0; pass < count; ++pass)
      for (int64_t s = 0; s < slices; ++s) {
        loop.decode(source + s * loop.slice_bytes, block);
        __asm__ volatile("" ::: "memory");  // a block that the next one overwrites is made as well
      }
  };
  run([&](int lane) {
    SplitMix64 random(1);
    std::byte* const source = memory[static_cast<size_t>(lane)].data() + kBlockBytes;
    for (int64_t i = 0; i < kSourceBytes; ++i) source[i] = static_cast<std::byte>(random.Next());
    passes(lane, 2);
  });
  const int64_t count = kTotalBytes / kSourceBytes;
  const double begin = Now(lanes);
  run([&](int lane) { passes(lane, count); });
  const int64_t bytes = count * slices * loop.slice_bytes * lanes;
  return static_cast<double>(bytes) / (Now(lanes) - begin);
}

}  // namespace sluice::bench
