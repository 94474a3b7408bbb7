// Conversions of stored elements to what kernels compute with.
#include <immintrin.h>

#include <cstring>

#include "base/check.h"
#include "checkpoint/weights.h"
#include "formats/fp8/e4m3.h"

namespace sluice {

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
    case DType::kF8E4M3: {
      const std::array<float, 256>& values = E4M3Values();
      for (int64_t i = 0; i < count; ++i) out[i] = values[As<uint8_t>()[begin + i]];
      return;
    }
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
