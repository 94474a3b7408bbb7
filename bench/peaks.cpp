#include "bench/peaks.h"

#include <immintrin.h>

#include <cstring>
#include <vector>

#include "tensor/arena.h"

namespace sluice::bench {
namespace {

#include "bench/peak_chains.inc"

struct Fma256 {
  using Sum = __m256;
  using Operand = __m256;
  static constexpr int64_t kOperations = 16;
  static Sum Zero() { return _mm256_setzero_ps(); }
  static Operand Some() { return _mm256_set1_ps(0.5f); }
  static Operand Load(const char* p) { return _mm256_load_ps(reinterpret_cast<const float*>(p)); }
  static Sum Step(Sum sum, Operand a, Operand b) { return _mm256_fmadd_ps(a, b, sum); }
};

// Bytes to sums of 32 bits without VNNI takes three instructions.
struct Madd256 {
  using Sum = __m256i;
  using Operand = __m256i;
  static constexpr int64_t kOperations = 64;
  static Sum Zero() { return _mm256_setzero_si256(); }
  static Operand Some() { return _mm256_set1_epi8(1); }
  static Operand Load(const char* p) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
  }
  static Sum Step(Sum sum, Operand a, Operand b) {
    __asm__ volatile("" : "+x"(a));  // or the same product would be made once for all steps
    return _mm256_add_epi32(sum,
                            _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)));
  }
};

// Assembly, so that the file needs no flags of its own.
struct Dot256 : Madd256 {
  static Sum Step(Sum sum, Operand a, Operand b) {
    __asm__ volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
    return sum;
  }
};

constexpr PeakLoop kLoops[] = {
    Loop<Fma256, 12>("fp32 FMA", "avx2", kAvx2),
    Loop<Madd256, 10>("int8 madd", "avx2", kAvx2),
    Loop<Dot256, 12>("int8 dot", "avx_vnni", kAvx2 | kAvxVnni),
};

constexpr int64_t kL1Bytes = 16 << 10, kL2Bytes = 512 << 10;  // half of the smallest in use

// Steps of about 5 ms at 100 G steps-chains a second; slow machines take longer, not less.
int64_t Steps(const PeakLoop& loop) {
  return loop.needs & (kAmxBf16 | kAmxInt8) ? 1 << 17 : 1 << 19;
}

const PeakLoop& Find(std::string_view product, std::string_view kernel) {
  for (const PeakLoop& loop : PeakLoops())
    if (loop.product == product && kernel.starts_with(loop.isa)) return loop;
  return PeakLoops().front();
}

}  // namespace

std::span<const PeakLoop> Avx2PeakLoops() { return kLoops; }

std::span<const PeakLoop> PeakLoops() {
  static const std::vector<PeakLoop> all = [] {
    std::vector<PeakLoop> loops;
    for (const auto part : {Avx2PeakLoops(), Avx512PeakLoops(), AmxPeakLoops()})
      loops.insert(loops.end(), part.begin(), part.end());
    return loops;
  }();
  return all;
}

const PeakLoop& PeakOfKernel(std::string_view kernel) {
  return Find(kernel == "amx"           ? "bf16 tiles"
              : kernel == "avx512_bf16" ? "bf16 dot"
                                        : "fp32 FMA",
              kernel);
}

const PeakLoop& PeakOfIntegerKernel(std::string_view kernel) {
  return Find(kernel == "amx" ? "int8 tiles" : kernel == "avx2" ? "int8 madd" : "int8 dot", kernel);
}

double MeasurePeak(const PeakLoop& loop, Feed feed, int lanes, const RunLanes& run) {
  const int64_t bytes = feed == Feed::kL1 ? kL1Bytes : kL2Bytes;
  // Half a MiB in a page of 2 MiB, so that it lies in one piece in a physically indexed L2.
  std::vector<Buffer> data(static_cast<size_t>(lanes));
  for (Buffer& buffer : data) {
    auto made = Buffer::Allocate(2 << 20, "peak operands");
    CHECK(made.ok());  // 2 MiB of address space a lane
    buffer = std::move(*made);
  }
  const auto pass = [&](int lane, int64_t steps) {
    if (feed == Feed::kRegisters)
      loop.registers(steps);
    else
      loop.memory(reinterpret_cast<const char*>(data[static_cast<size_t>(lane)].data()), bytes,
                  steps);
  };
  const int64_t steps = Steps(loop);
  run([&](int lane) {
    if (feed != Feed::kRegisters)
      std::memset(data[static_cast<size_t>(lane)].data(), 0, static_cast<size_t>(bytes));
    pass(lane, bytes / loop.step_bytes);
  });
  const double begin = Now(lanes);
  run([&](int lane) { pass(lane, steps); });
  return static_cast<double>(loop.step_operations * steps * lanes) / (Now(lanes) - begin);
}

}  // namespace sluice::bench
