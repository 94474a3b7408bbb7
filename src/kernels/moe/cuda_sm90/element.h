// What rows and weights are made of on the device.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define SLUICE_HOST_DEVICE __host__ __device__
#else
#define SLUICE_HOST_DEVICE
#endif

namespace sluice::moe_sm90 {

/// kFp8: e4m3 weights with an fp32 scale an output, rows and intermediate rows as e4m3 with an
/// fp32 scale a row, computed from their largest magnitude.
enum class Element : uint8_t { kBf16, kFp8 };

SLUICE_HOST_DEVICE constexpr int ElementBytes(Element element) {
  return element == Element::kFp8 ? 1 : 2;
}

}  // namespace sluice::moe_sm90
