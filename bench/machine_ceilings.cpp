#include "bench/machine_ceilings.h"

#include <immintrin.h>
#include <sys/mman.h>
#include <time.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace sluice::bench {
namespace {

// Sixteen independent chains: two units of latency 4 need eight.
constexpr int kChains = 16;
constexpr int64_t kSteps = 1 << 19;

__attribute__((target("avx512f"))) float ChainsAvx512() {
  __m512 sum[kChains];
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) sum[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(1.0f);
  for (int64_t step = 0; step < kSteps; ++step)
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) {
      sum[i] = _mm512_fmadd_ps(sum[i], a, b);
      __asm__("" : "+v"(sum[i]));
    }
  __m512 all = sum[0];
#pragma GCC unroll 16
  for (int i = 1; i < kChains; ++i) all = _mm512_add_ps(all, sum[i]);
  return _mm512_cvtss_f32(all);
}

float ChainsAvx2() {
  constexpr int kHalf = kChains * 3 / 4;  // of 16 registers
  __m256 sum[kHalf];
#pragma GCC unroll 16
  for (int i = 0; i < kHalf; ++i) sum[i] = _mm256_set1_ps(static_cast<float>(i));
  const __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(1.0f);
  for (int64_t step = 0; step < kSteps; ++step)
#pragma GCC unroll 16
    for (int i = 0; i < kHalf; ++i) {
      sum[i] = _mm256_fmadd_ps(sum[i], a, b);
      __asm__("" : "+x"(sum[i]));
    }
  __m256 all = sum[0];
#pragma GCC unroll 16
  for (int i = 1; i < kHalf; ++i) all = _mm256_add_ps(all, sum[i]);
  return _mm256_cvtss_f32(all);
}

// Four streams side by side, prefetched 2 KiB ahead: the fastest plain loop that we know.
void Stream(const char* begin, uint64_t bytes) {
  const uint64_t quarter = bytes / 4 / 64 * 64;
  __m256i all = _mm256_setzero_si256();
  for (uint64_t at = 0; at < quarter; at += 64)
    for (int s = 0; s < 4; ++s) {
      const char* p = begin + s * quarter + at;
      _mm_prefetch(p + 2048, _MM_HINT_T0);
      all = _mm256_xor_si256(all, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
      all = _mm256_xor_si256(all, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32)));
    }
  __asm__ volatile("" ::"x"(all));
}

}  // namespace

double Now(int lanes) {
  if (lanes > 1)
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double FmaFlops(int lanes, const RunLanes& run) {
  const bool wide = __builtin_cpu_supports("avx512f");
  const double begin = Now(lanes);
  run([&](int) {
    volatile float sink = wide ? ChainsAvx512() : ChainsAvx2();
    (void)sink;
  });
  const double chains = wide ? kChains * 16 : kChains * 3 / 4 * 8;
  return 2.0 * chains * static_cast<double>(kSteps) * lanes / (Now(lanes) - begin);
}

ReadBandwidth::ReadBandwidth(Pages pages, uint64_t bytes) : bytes_(bytes) {
  constexpr uint64_t kHuge = 2 << 20;
  memory_ = std::aligned_alloc(kHuge, bytes / kHuge * kHuge);
  if (!memory_) {
    std::fprintf(stderr, "no %llu bytes for the bandwidth measurement\n",
                 static_cast<unsigned long long>(bytes));
    std::exit(1);
  }
  madvise(memory_, bytes, pages == Pages::kHuge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  std::memset(memory_, 1, bytes);
}

ReadBandwidth::~ReadBandwidth() { std::free(memory_); }

double ReadBandwidth::Measure(int lanes, const RunLanes& run) const {
  const double begin = Now(lanes);
  const uint64_t share = bytes_ / lanes;
  run([&](int lane) { Stream(static_cast<const char*>(memory_) + share * lane, share); });
  return static_cast<double>(bytes_) / (Now(lanes) - begin);
}

double ReadBandwidth::MeasureCopy(int lanes, const RunLanes& run) {
  const double begin = Now(lanes);
  const uint64_t half = bytes_ / lanes / 2;
  run([&](int lane) {
    char* const to = static_cast<char*>(memory_) + 2 * half * lane;
    std::memcpy(to, to + half, half);
  });
  return static_cast<double>(half) * lanes / (Now(lanes) - begin);
}

}  // namespace sluice::bench
