#include <immintrin.h>

#include "bench/peaks.h"

namespace sluice::bench {
namespace {

#include "kernels/linear/amx_tiles.inc"

enum Tile { kC0, kC1, kC2, kC3, kA0, kA1, kB0, kB1 };

constexpr int64_t kTileBytes = 1024;

struct Bf16Tiles {
  static constexpr int64_t kOperations = 4 * 16 * 16 * 32 * 2;
  template <int kC, int kA, int kB>
  static void Multiply() {
    T::Multiply<kC, kA, kB>();
  }
};

struct Int8Tiles {
  static constexpr int64_t kOperations = 4 * 16 * 16 * 64 * 2;
  template <int kC, int kA, int kB>
  static void Multiply() {
    T::MultiplyInt8<kC, kA, kB>();
  }
};

template <class I>
void FourProducts() {
  I::template Multiply<kC0, kA0, kB0>();
  I::template Multiply<kC1, kA0, kB1>();
  I::template Multiply<kC2, kA1, kB0>();
  I::template Multiply<kC3, kA1, kB1>();
}

void Start() {
  T::Configure(16, 16);
  T::Zero<kC0>();
  T::Zero<kC1>();
  T::Zero<kC2>();
  T::Zero<kC3>();
  T::Zero<kA0>();
  T::Zero<kA1>();
  T::Zero<kB0>();
  T::Zero<kB1>();
}

template <class I>
void FromRegisters(int64_t steps) {
  Start();
  for (int64_t step = 0; step < steps; ++step) FourProducts<I>();
  T::Release();
}

template <class I>
void FromMemory(const char* data, int64_t bytes, int64_t steps) {
  Start();
  for (int64_t step = 0, at = 0; step < steps; ++step) {
    T::Load<kA0>(data + at, 64);
    T::Load<kA1>(data + at + kTileBytes, 64);
    T::Load<kB0>(data + at + 2 * kTileBytes, 64);
    T::Load<kB1>(data + at + 3 * kTileBytes, 64);
    FourProducts<I>();
    at += 4 * kTileBytes;
    if (at + 4 * kTileBytes > bytes) at = 0;
  }
  T::Release();
}

template <class I>
constexpr PeakLoop Loop(const char* product, uint32_t needs) {
  return {product, "amx", needs, 4 * kTileBytes, I::kOperations, FromRegisters<I>, FromMemory<I>};
}

constexpr PeakLoop kLoops[] = {
    Loop<Bf16Tiles>("bf16 tiles", kAmxBf16),
    Loop<Int8Tiles>("int8 tiles", kAmxInt8),
};

}  // namespace

std::span<const PeakLoop> AmxPeakLoops() { return kLoops; }

}  // namespace sluice::bench
