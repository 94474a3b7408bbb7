#include <immintrin.h>

#include "bench/peaks.h"

namespace sluice::bench {
namespace {

#include "bench/peak_chains.inc"

struct Fma512 {
  using Sum = __m512;
  using Operand = __m512;
  static constexpr int64_t kOperations = 32;
  static Sum Zero() { return _mm512_setzero_ps(); }
  static Operand Some() { return _mm512_set1_ps(0.5f); }
  static Operand Load(const char* p) { return _mm512_load_ps(p); }
  static Sum Step(Sum sum, Operand a, Operand b) { return _mm512_fmadd_ps(a, b, sum); }
};

// Assembly, so that the file needs no flags of features that a machine with AVX-512 may lack.
struct DotBf16 {
  using Sum = __m512;
  using Operand = __m512;
  static constexpr int64_t kOperations = 64;
  static Sum Zero() { return _mm512_setzero_ps(); }
  static Operand Some() { return _mm512_castsi512_ps(_mm512_set1_epi16(0x3F00)); }
  static Operand Load(const char* p) { return _mm512_load_ps(p); }
  static Sum Step(Sum sum, Operand a, Operand b) {
    __asm__ volatile("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
  }
};

struct DotInt8 {
  using Sum = __m512i;
  using Operand = __m512i;
  static constexpr int64_t kOperations = 128;
  static Sum Zero() { return _mm512_setzero_si512(); }
  static Operand Some() { return _mm512_set1_epi8(1); }
  static Operand Load(const char* p) { return _mm512_load_si512(p); }
  static Sum Step(Sum sum, Operand a, Operand b) {
    __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
  }
};

constexpr PeakLoop kLoops[] = {
    Loop<Fma512, 16>("fp32 FMA", "avx512", kAvx512),
    Loop<DotBf16, 16>("bf16 dot", "avx512", kAvx512 | kAvx512Bf16),
    Loop<DotInt8, 16>("int8 dot", "avx512", kAvx512 | kAvx512Vnni),
};

}  // namespace

std::span<const PeakLoop> Avx512PeakLoops() { return kLoops; }

}  // namespace sluice::bench
