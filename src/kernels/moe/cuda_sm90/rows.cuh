// What one warp does to one row: quantising, copying, adding experts. Columns in vectors of eight,
// lane after lane.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include <cstdint>

#include "kernels/moe/cuda_sm90/element.h"

namespace sluice::moe_sm90 {

inline constexpr int kWarp = 32, kVector = 8;

/// Largest magnitudes are kept as the bits of a float, whose order as integers is that of their
/// values with not-a-number above all. The floor keeps 448 / m finite.
inline constexpr uint32_t kLeastMagnitude = 0x0DA24260;  // 1e-30
__device__ inline uint32_t MagnitudeBits(float x) { return __float_as_uint(x) & 0x7FFFFFFF; }
__device__ inline float QuantizingScale(uint32_t magnitude) {
  return 448.0f / __uint_as_float(max(magnitude, kLeastMagnitude));
}
__device__ inline float RowScale(uint32_t magnitude) {
  return __uint_as_float(max(magnitude, kLeastMagnitude)) / 448.0f;
}

__device__ inline void Unpack(const uint4& packed, float (&out)[kVector]) {
  const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    out[2 * i] = __uint_as_float(words[i] << 16);
    out[2 * i + 1] = __uint_as_float(words[i] & 0xFFFF0000);
  }
}
__device__ inline uint32_t PackBf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ inline uint4 Pack(const float (&x)[kVector]) {
  return {PackBf16(x[0], x[1]), PackBf16(x[2], x[3]), PackBf16(x[4], x[5]), PackBf16(x[6], x[7])};
}
__device__ inline float RoundBf16(float x) { return __bfloat162float(__float2bfloat16_rn(x)); }

__device__ inline uint32_t PackFp8(float a, float b, float c, float d) {
  const uint32_t low = __nv_cvt_float2_to_fp8x2(make_float2(a, b), __NV_SATFINITE, __NV_E4M3);
  const uint32_t high = __nv_cvt_float2_to_fp8x2(make_float2(c, d), __NV_SATFINITE, __NV_E4M3);
  return low | high << 16;
}

/// Columns [column, column + 8) of a row of `columns`; zero behind it. Rows of other widths than
/// multiples of eight are not aligned.
__device__ inline uint4 LoadVector(const __nv_bfloat16* row, int column, int columns) {
  if (columns % kVector == 0) {
    if (column >= columns) return {0, 0, 0, 0};
    return *reinterpret_cast<const uint4*>(row + column);
  }
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int c = column + 2 * i;
    const uint32_t low = c < columns ? __bfloat16_as_ushort(row[c]) : 0;
    const uint32_t high = c + 1 < columns ? __bfloat16_as_ushort(row[c + 1]) : 0;
    words[i] = low | high << 16;
  }
  return {words[0], words[1], words[2], words[3]};
}

__device__ inline uint32_t MagnitudeBits(const uint4& packed) {
  float x[kVector];
  Unpack(packed, x);
  uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < kVector; ++i) largest = max(largest, MagnitudeBits(x[i]));
  return largest;
}

/// Of a whole row, in every lane.
__device__ inline uint32_t RowMagnitude(const __nv_bfloat16* row, int columns) {
  const int lane = threadIdx.x % kWarp;
  uint32_t largest = 0;
#pragma unroll 4
  for (int c = lane * kVector; c < columns; c += kWarp * kVector)
    largest = max(largest, MagnitudeBits(LoadVector(row, c, columns)));
  return __reduce_max_sync(0xFFFFFFFF, largest);
}

/// Codes of a row of `columns`, `padded` bytes of them, zero behind `columns`.
__device__ inline void QuantizeRow(const __nv_bfloat16* row, int columns, uint32_t magnitude,
                                   uint8_t* out, int padded) {
  const int lane = threadIdx.x % kWarp;
  const float scale = QuantizingScale(magnitude);
#pragma unroll 4
  for (int c = lane * kVector; c < padded; c += kWarp * kVector) {
    float x[kVector];
    Unpack(LoadVector(row, c, columns), x);
#pragma unroll
    for (int i = 0; i < kVector; ++i) x[i] = c + i < columns ? x[i] * scale : 0;
    *reinterpret_cast<uint2*>(out + c) = {PackFp8(x[0], x[1], x[2], x[3]),
                                          PackFp8(x[4], x[5], x[6], x[7])};
  }
}

/// The same without quantising.
__device__ inline void PadRow(const __nv_bfloat16* row, int columns, __nv_bfloat16* out,
                              int padded) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll 4
  for (int c = lane * kVector; c < padded; c += kWarp * kVector)
    *reinterpret_cast<uint4*>(out + c) = LoadVector(row, c, columns);
}

/// bytes: a multiple of 256; both aligned.
__device__ inline void CopyRow(const uint8_t* row, uint8_t* out, int bytes) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll 4
  for (int c = lane * 16; c < bytes; c += kWarp * 16)
    *reinterpret_cast<uint4*>(out + c) = *reinterpret_cast<const uint4*>(row + c);
}

/// y = round(round(sum_j weights[j] rows[j]) + shared), columns [begin, end), j ascending in fp32.
/// rows [top_k, padded], bf16, aligned; shared: one such row, or nullptr.
__device__ inline void CombineToken(const __nv_bfloat16* rows, const float* weights, int top_k,
                                    const __nv_bfloat16* shared, int padded, int begin, int end,
                                    __nv_bfloat16* y, bool y_aligned) {
  const int lane = threadIdx.x % kWarp;
  for (int c = begin + lane * kVector; c < end; c += kWarp * kVector) {
    float sum[kVector] = {};
#pragma unroll 4
    for (int j = 0; j < top_k; ++j) {
      float x[kVector];
      Unpack(*reinterpret_cast<const uint4*>(rows + int64_t{j} * padded + c), x);
      const float weight = weights[j];
#pragma unroll
      for (int i = 0; i < kVector; ++i) sum[i] = fmaf(weight, x[i], sum[i]);
    }
    if (shared) {
      float x[kVector];
      Unpack(*reinterpret_cast<const uint4*>(shared + c), x);
#pragma unroll
      for (int i = 0; i < kVector; ++i) sum[i] = RoundBf16(sum[i]) + x[i];
    }
    if (y_aligned && c + kVector <= end) {
      *reinterpret_cast<uint4*>(y + c) = Pack(sum);
    } else {
#pragma unroll
      for (int i = 0; i < kVector; ++i)
        if (c + i < end) y[c + i] = __float2bfloat16_rn(sum[i]);
    }
  }
}

/// silu: x / (1 + exp(-x)); gelu_tanh as in kernels/linear/activation.h.
__device__ inline float Activate(bool gelu, float x) {
  if (!gelu) return x / (1.0f + __expf(-x));
  const float inner = 0.79788456080286536f * (x + 0.044715f * x * x * x);
  return 0.5f * x * (1.0f + tanhf(inner));
}
/// The intermediate value, rounded where the contract rounds.
__device__ inline float GatedProduct(bool gelu, float gate, float up) {
  return RoundBf16(RoundBf16(Activate(gelu, RoundBf16(gate))) * RoundBf16(up));
}

}  // namespace sluice::moe_sm90
