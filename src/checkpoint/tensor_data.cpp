// Conversions of stored elements to what kernels compute with.
#include <immintrin.h>

#include <array>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "checkpoint/weights.h"

namespace sluice {
namespace {

// OCP e4m3fn: 1 sign, 4 exponent (bias 7), 3 mantissa bits; no infinity, 0x7F and 0xFF are NaN.
float F8E4M3ToFloat(uint8_t code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                  : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  if ((code & 0x7F) == 0x7F) magnitude = std::nanf("");
  return code & 0x80 ? -magnitude : magnitude;
}

const std::array<float, 256>& F8Table() {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> t;
    for (int code = 0; code < 256; ++code) t[code] = F8E4M3ToFloat(static_cast<uint8_t>(code));
    return t;
  }();
  return table;
}

}  // namespace

int64_t TensorData::count() const {
  int64_t count = 1;
  for (int64_t dim : shape) count *= dim;
  return count;
}

void TensorData::ToFloat(int64_t begin, int64_t count, float* out) const {
  DCHECK(begin >= 0 && begin + count <= this->count());
  switch (dtype) {
    case DType::kF32:
      if (count) std::memcpy(out, As<float>() + begin, static_cast<size_t>(count) * 4);
      return;
    case DType::kBf16:
      for (int64_t i = 0; i < count; ++i) out[i] = sluice::ToFloat(As<Bf16>()[begin + i]);
      return;
    case DType::kF16:
      for (int64_t i = 0; i < count; ++i) out[i] = _cvtsh_ss(As<uint16_t>()[begin + i]);
      return;
    case DType::kF8E4M3:
      for (int64_t i = 0; i < count; ++i) out[i] = F8Table()[As<uint8_t>()[begin + i]];
      return;
    default: CHECK(!"ToFloat: the row accepts a dtype that is no float");
  }
}

void TensorData::ToBf16(int64_t begin, int64_t count, Bf16* out) const {
  if (dtype == DType::kBf16) {
    if (count) std::memcpy(out, As<Bf16>() + begin, static_cast<size_t>(count) * 2);
    return;
  }
  constexpr int64_t kBlock = 256;
  float block[kBlock];
  for (int64_t i = 0; i < count; i += kBlock) {
    const int64_t n = std::min(kBlock, count - i);
    ToFloat(begin + i, n, block);
    for (int64_t j = 0; j < n; ++j) out[i + j] = sluice::ToBf16(block[j]);
  }
}

}  // namespace sluice
