// For the emulated device, in place of CUDA's header: e4m3, saturating.
#pragma once

#include <cuda_runtime.h>

#include "formats/fp8/e4m3.h"

using __nv_fp8_storage_t = unsigned char;
using __nv_fp8x2_storage_t = unsigned short;
enum __nv_saturation_t { __NV_SATFINITE };
enum __nv_fp8_interpretation_t { __NV_E4M3 };

inline __nv_fp8_storage_t __nv_cvt_float_to_fp8(float x, __nv_saturation_t,
                                                __nv_fp8_interpretation_t) {
  return sluice::FloatToE4M3(x);
}
inline __nv_fp8x2_storage_t __nv_cvt_float2_to_fp8x2(float2 x, __nv_saturation_t,
                                                     __nv_fp8_interpretation_t) {
  return static_cast<__nv_fp8x2_storage_t>(sluice::FloatToE4M3(x.x) | sluice::FloatToE4M3(x.y)
                                                                          << 8);
}
struct __nv_fp8_e4m3 {
  __nv_fp8_storage_t __x;
  explicit operator float() const { return sluice::E4M3ToFloat(__x); }
};
