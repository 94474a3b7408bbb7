// For the emulated device, in place of CUDA's header: 16 x 16 x 16 products of bf16 by a warp,
// where a lane has half a row of the sums.
#pragma once

#include <cuda_bf16.h>

namespace nvcuda::wmma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major };

template <class Use, int kM, int kN, int kK, class T, class Layout = void>
struct fragment;
/// The lane's row of a.
template <>
struct fragment<matrix_a, 16, 16, 16, __nv_bfloat16, row_major> {
  float x[16];
};
/// Columns 8 (lane % 2) and following of b, [n][k].
template <>
struct fragment<matrix_b, 16, 16, 16, __nv_bfloat16, col_major> {
  float x[8][16];
};
/// The same columns of row lane / 2.
template <>
struct fragment<accumulator, 16, 16, 16, float> {
  float x[8];
};
using A = fragment<matrix_a, 16, 16, 16, __nv_bfloat16, row_major>;
using B = fragment<matrix_b, 16, 16, 16, __nv_bfloat16, col_major>;
using Sums = fragment<accumulator, 16, 16, 16, float>;

inline unsigned MmaRow() { return static_cast<unsigned>(sluice::emulated::Here().lane()) / 2; }
inline unsigned MmaColumn() {
  return static_cast<unsigned>(sluice::emulated::Here().lane()) % 2 * 8;
}

inline void fill_fragment(Sums& sums, float value) {
  for (float& x : sums.x) x = value;
}
inline void load_matrix_sync(A& a, const __nv_bfloat16* from, unsigned stride) {
  from += MmaRow() * stride;
  for (unsigned k = 0; k < 16; ++k) a.x[k] = __bfloat162float(from[k]);
}
inline void load_matrix_sync(B& b, const __nv_bfloat16* from, unsigned stride) {
  from += MmaColumn() * stride;
  for (unsigned n = 0; n < 8; ++n)
    for (unsigned k = 0; k < 16; ++k) b.x[n][k] = __bfloat162float(from[n * stride + k]);
}
inline void mma_sync(Sums& d, const A& a, const B& b, const Sums& c) {
  for (int n = 0; n < 8; ++n) {
    float parts[8];
    for (int k = 0; k < 8; ++k) parts[k] = a.x[k] * b.x[n][k] + a.x[k + 8] * b.x[n][k + 8];
    float sum = c.x[n];
    for (int k = 0; k < 4; ++k) sum += parts[k] + parts[k + 4];
    d.x[n] = sum;
  }
}
inline void store_matrix_sync(float* to, const Sums& sums, unsigned stride, layout_t) {
  std::memcpy(to + MmaRow() * stride + MmaColumn(), sums.x, sizeof sums.x);
}

}  // namespace nvcuda::wmma
