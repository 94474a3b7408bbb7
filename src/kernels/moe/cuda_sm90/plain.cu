// The plain back end: sort, quantise, products of gathered rows, quantise, products, combine; each
// a launch. Nothing here is shared with the fused kernel but what a warp does to a row.
#include <mma.h>

#include "kernels/moe/cuda_sm90/instructions.cuh"
#include "kernels/moe/cuda_sm90/launch.h"
#include "kernels/moe/cuda_sm90/plain.h"
#include "kernels/moe/cuda_sm90/rows.cuh"

namespace sluice::moe_sm90 {
namespace {

constexpr int kSortWarps = 32, kSortThreads = kSortWarps * kWarp;
constexpr int kStepColumns = 64;  // of K
constexpr int kProductThreads = 256;
constexpr int kTilePad = 16;  // keeps rows of the tiles 32-byte aligned and off the same banks
constexpr int kTileStride = kStepColumns + kTilePad, kSumStride = kPlainOutputs + 8;

// Rows by expert, stable: each warp owns a run of pairs, counts them, and places them behind those
// of the warps before it. Dynamic shared memory: int [kSortWarps + 1][experts].
__global__ void __launch_bounds__(kSortThreads) Sort(const PlainParams p) {
  int* const counts = DynamicShared<int>();
  const int experts = p.shape.experts, top_k = p.shape.top_k;
  const int pairs = p.args.tokens * top_k;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int run = (pairs + kSortWarps - 1) / kSortWarps;
  const int begin = min(pairs, warp * run), end = min(pairs, begin + run);
  for (int i = threadIdx.x; i < kSortWarps * experts; i += kSortThreads) counts[i] = 0;
  __syncthreads();
  for (int i = begin + lane; i < end; i += kWarp)
    atomicAdd(&counts[warp * experts + p.args.ids[i]], 1);
  __syncthreads();
  int* const totals = counts + kSortWarps * experts;
  for (int e = threadIdx.x; e < experts; e += kSortThreads) {
    int sum = 0;
    for (int w = 0; w < kSortWarps; ++w) {
      const int count = counts[w * experts + e];
      counts[w * experts + e] = sum;
      sum += count;
    }
    totals[e] = sum;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    int row = 0, block = 0;
    for (int e = 0; e < experts; ++e) {
      p.begins[e] = row;
      p.block_begins[e] = block;
      const int rows = totals[e];
      totals[e] = row;
      row += rows;
      block += (rows + kPlainRows - 1) / kPlainRows;
    }
    const int tokens = p.shape.shared_intermediate > 0 ? p.args.tokens : 0;
    p.begins[experts] = row;
    p.block_begins[experts] = block;
    p.begins[experts + 1] = row + tokens;
    p.block_begins[experts + 1] = block + (tokens + kPlainRows - 1) / kPlainRows;
  }
  __syncthreads();
  for (int base = begin; base < end; base += kWarp) {
    const int i = base + lane;
    const bool live = i < end;
    const unsigned lanes = __ballot_sync(0xFFFFFFFF, live);
    if (live) {
      const int e = p.args.ids[i], token = i / top_k, j = i - token * top_k;
      const unsigned same = __match_any_sync(lanes, e);
      int* const next = &counts[warp * experts + e];
      const int row = totals[e] + *next + __popc(same & ((1u << lane) - 1));
      __syncwarp(lanes);
      if (lane == __ffs(same) - 1) *next += __popc(same);
      __syncwarp(lanes);
      int order = 0;  // among the token's experts
      for (int other = 0; other < top_k; ++other) {
        const int id = p.args.ids[token * top_k + other];
        order += id < e || (id == e && other < j);
      }
      p.row_tokens[row] = token;
      p.row_slots[row] = token * top_k + order;
      p.slot_weights[token * top_k + order] = p.args.weights[i];
    }
  }
  if (p.shape.shared_intermediate > 0)
    for (int t = threadIdx.x; t < p.args.tokens; t += kSortThreads) {
      p.row_tokens[pairs + t] = t;
      p.row_slots[pairs + t] = pairs + t;
    }
}

__device__ int GlobalWarp() { return (blockIdx.x * blockDim.x + threadIdx.x) / kWarp; }

template <Element kElement>
__global__ void PrepareRows(const PlainParams p) {
  const int token = GlobalWarp();
  if (token >= p.args.tokens) return;
  const auto* row = static_cast<const __nv_bfloat16*>(p.args.x) + int64_t{token} * p.shape.hidden;
  const int64_t out = int64_t{token} * p.padded_hidden;
  if constexpr (kElement == Element::kBf16) {
    PadRow(row, p.shape.hidden, static_cast<__nv_bfloat16*>(p.x) + out, p.padded_hidden);
  } else {
    const uint32_t magnitude = RowMagnitude(row, p.shape.hidden);
    QuantizeRow(row, p.shape.hidden, magnitude, static_cast<uint8_t*>(p.x) + out, p.padded_hidden);
    if (threadIdx.x % kWarp == 0) p.x_scales[token] = RowScale(magnitude);
  }
}

__device__ int Rows(const PlainParams& p) { return p.begins[p.shape.experts + 1]; }

__global__ void QuantizeMiddle(const PlainParams p) {
  const int row = GlobalWarp();
  if (row >= Rows(p)) return;
  const bool shared = row >= p.begins[p.shape.experts];
  const int columns = shared ? p.shared.intermediate : p.routed.intermediate;
  const auto* middle =
      reinterpret_cast<const __nv_bfloat16*>(p.middle) + int64_t{row} * p.middle_stride;
  const uint32_t magnitude = RowMagnitude(middle, columns);
  QuantizeRow(middle, columns, magnitude, p.middle_codes + int64_t{row} * p.middle_stride, columns);
  if (threadIdx.x % kWarp == 0) p.middle_scales[row] = RowScale(magnitude);
}

__global__ void Combine(const PlainParams p) {
  const int token = GlobalWarp(), top_k = p.shape.top_k;
  if (token >= p.args.tokens) return;
  const auto* slots = reinterpret_cast<const __nv_bfloat16*>(p.slots);
  const auto* shared = slots + (int64_t{p.args.tokens} * top_k + token) * p.padded_hidden;
  CombineToken(slots + int64_t{token} * top_k * p.padded_hidden, p.slot_weights + token * top_k,
               top_k, p.shape.shared_intermediate > 0 ? shared : nullptr, p.padded_hidden, 0,
               p.shape.hidden,
               static_cast<__nv_bfloat16*>(p.args.y) + int64_t{token} * p.shape.hidden,
               p.shape.hidden % kVector == 0);
}

// 64 elements as bf16. e4m3 values are bf16 values.
template <Element kElement>
__device__ void LoadStep(const void* row, int column, __nv_bfloat16* out) {
  if constexpr (kElement == Element::kBf16) {
    const auto* in =
        reinterpret_cast<const uint4*>(static_cast<const __nv_bfloat16*>(row) + column);
#pragma unroll
    for (int i = 0; i < kStepColumns / kVector; ++i) reinterpret_cast<uint4*>(out)[i] = in[i];
  } else {
    const auto* in = reinterpret_cast<const uint2*>(static_cast<const uint8_t*>(row) + column);
#pragma unroll
    for (int i = 0; i < kStepColumns / kVector; ++i) {
      const uint2 codes = in[i];
      float x[kVector];
#pragma unroll
      for (int j = 0; j < kVector; ++j) {
        __nv_fp8_e4m3 code;
        code.__x = static_cast<__nv_fp8_storage_t>((j < 4 ? codes.x : codes.y) >> (j % 4 * 8));
        x[j] = static_cast<float>(code);
      }
      reinterpret_cast<uint4*>(out)[i] = Pack(x);
    }
  }
}

struct Tile {
  int expert;  // shape.experts: the shared one
  int row, rows;
};

// The block of rows of blockIdx.y, or none.
__device__ bool FindTile(const PlainParams& p, Tile& tile) {
  const int block = blockIdx.y, groups = p.shape.experts + 1;
  if (block >= p.block_begins[groups]) return false;
  int low = 0, high = groups - 1;  // the last group that begins at or before `block`
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (p.block_begins[middle] <= block)
      low = middle;
    else
      high = middle - 1;
  }
  tile.expert = low;
  tile.row = p.begins[low] + (block - p.block_begins[low]) * kPlainRows;
  tile.rows = min(kPlainRows, p.begins[low + 1] - tile.row);
  return true;
}

// sums[128 rows][128 outputs] of a tile, full K, in fp32. Rows behind the tile's repeat its last.
template <Element kElement>
__device__ void Product(const char* a, const char* weights, int columns, float* sums,
                        __nv_bfloat16* steps) {
  using nvcuda::wmma::accumulator;
  using nvcuda::wmma::col_major;
  using nvcuda::wmma::fragment;
  using nvcuda::wmma::matrix_a;
  using nvcuda::wmma::matrix_b;
  using nvcuda::wmma::row_major;
  const int warp = threadIdx.x / kWarp;
  const int row = warp / 2 * 32, output = warp % 2 * 64;  // of this warp's part: 32 x 64
  fragment<accumulator, 16, 16, 16, float> sum[2][4];
  for (auto& of_row : sum)
    for (auto& s : of_row) nvcuda::wmma::fill_fragment(s, 0.0f);
  __nv_bfloat16* const b_steps = steps + kPlainRows * kTileStride;
  for (int k = 0; k < columns; k += kStepColumns) {
    const int mine = threadIdx.x % kPlainRows;  // half of the threads load rows, half weights
    if (threadIdx.x < kPlainRows)
      LoadStep<kElement>(a, k, steps + mine * kTileStride);
    else
      LoadStep<kElement>(weights, k, b_steps + mine * kTileStride);
    __syncthreads();
    for (int i = 0; i < kStepColumns; i += 16) {
      fragment<matrix_b, 16, 16, 16, __nv_bfloat16, col_major> b[4];
      for (int o = 0; o < 4; ++o)
        nvcuda::wmma::load_matrix_sync(b[o], b_steps + (output + 16 * o) * kTileStride + i,
                                       kTileStride);
      for (int r = 0; r < 2; ++r) {
        fragment<matrix_a, 16, 16, 16, __nv_bfloat16, row_major> f;
        nvcuda::wmma::load_matrix_sync(f, steps + (row + 16 * r) * kTileStride + i, kTileStride);
        for (int o = 0; o < 4; ++o) nvcuda::wmma::mma_sync(sum[r][o], f, b[o], sum[r][o]);
      }
    }
    __syncthreads();
  }
  for (int r = 0; r < 2; ++r)
    for (int o = 0; o < 4; ++o)
      nvcuda::wmma::store_matrix_sync(sums + (row + 16 * r) * kSumStride + output + 16 * o,
                                      sum[r][o], kSumStride, nvcuda::wmma::mem_row_major);
  __syncthreads();
}

constexpr size_t kStepBytes = (kPlainRows + kPlainOutputs) * kTileStride * sizeof(uint16_t);
constexpr size_t kProductBytes = kStepBytes + kPlainRows * kSumStride * sizeof(float);

template <Element kElement>
__global__ void __launch_bounds__(kProductThreads) GateUp(const PlainParams p) {
  char* const shared = DynamicShared<char>();
  Tile tile;
  if (!FindTile(p, tile)) return;
  const bool is_shared = tile.expert == p.shape.experts;
  const ExpertsView& view = is_shared ? p.shared : p.routed;
  const int expert = is_shared ? 0 : tile.expert, outputs = 2 * view.intermediate;
  const int first = blockIdx.x * kPlainOutputs;
  if (first >= outputs) return;
  const int mine = threadIdx.x % kPlainRows;
  const int token = p.row_tokens[tile.row + min(mine, tile.rows - 1)];
  const int64_t row_bytes = int64_t{p.padded_hidden} * ElementBytes(kElement);
  auto* steps = reinterpret_cast<__nv_bfloat16*>(shared);
  auto* sums = reinterpret_cast<float*>(shared + kStepBytes);
  Product<kElement>(static_cast<const char*>(p.x) + token * row_bytes,
                    static_cast<const char*>(view.gate_up) +
                        (int64_t{expert} * outputs + first + mine) * row_bytes,
                    p.padded_hidden, sums, steps);
  const bool gelu = p.shape.activation == Activation::kGeluTanh;
  const float* scales = view.gate_up_scales + int64_t{expert} * outputs + first;
  for (int i = threadIdx.x; i < tile.rows * kPlainOutputs / 2; i += kProductThreads) {
    const int row = i / (kPlainOutputs / 2), column = i % (kPlainOutputs / 2);
    const int gate = column / 8 * 16 + column % 8;
    float g = sums[row * kSumStride + gate], u = sums[row * kSumStride + gate + 8];
    if constexpr (kElement == Element::kFp8) {
      const float scale = p.x_scales[p.row_tokens[tile.row + row]];
      g *= scale * scales[gate];
      u *= scale * scales[gate + 8];
    }
    reinterpret_cast<__nv_bfloat16*>(
        p.middle)[int64_t{tile.row + row} * p.middle_stride + first / 2 + column] =
        __float2bfloat16_rn(GatedProduct(gelu, g, u));
  }
}

template <Element kElement>
__global__ void __launch_bounds__(kProductThreads) Down(const PlainParams p) {
  char* const shared = DynamicShared<char>();
  Tile tile;
  if (!FindTile(p, tile)) return;
  const bool is_shared = tile.expert == p.shape.experts;
  const ExpertsView& view = is_shared ? p.shared : p.routed;
  const int expert = is_shared ? 0 : tile.expert;
  const int first = blockIdx.x * kPlainOutputs;
  const int mine = threadIdx.x % kPlainRows;
  const char* middle = kElement == Element::kFp8 ? reinterpret_cast<const char*>(p.middle_codes)
                                                 : reinterpret_cast<const char*>(p.middle);
  constexpr int kBytes = ElementBytes(kElement);
  auto* steps = reinterpret_cast<__nv_bfloat16*>(shared);
  auto* sums = reinterpret_cast<float*>(shared + kStepBytes);
  Product<kElement>(
      middle + int64_t{tile.row + min(mine, tile.rows - 1)} * p.middle_stride * kBytes,
      static_cast<const char*>(view.down) +
          (int64_t{expert} * p.padded_hidden + first + mine) * view.intermediate * kBytes,
      view.intermediate, sums, steps);
  const float* scales = view.down_scales + int64_t{expert} * p.padded_hidden + first;
  for (int i = threadIdx.x; i < tile.rows * kPlainOutputs; i += kProductThreads) {
    const int row = i / kPlainOutputs, output = i % kPlainOutputs;
    float y = sums[row * kSumStride + output];
    if constexpr (kElement == Element::kFp8) y *= p.middle_scales[tile.row + row] * scales[output];
    const int64_t slot = p.row_slots[tile.row + row];
    reinterpret_cast<__nv_bfloat16*>(p.slots)[slot * p.padded_hidden + first + output] =
        __float2bfloat16_rn(y);
  }
}

template <Element kElement>
cudaError_t Launch(const PlainParams& p, cudaStream_t stream) {
  const int tokens = p.args.tokens, experts = p.shape.experts;
  const int rows = tokens * p.shape.top_k + (p.shape.shared_intermediate > 0 ? tokens : 0);
  const int sort_bytes = (kSortWarps + 1) * experts * static_cast<int>(sizeof(int));
  constexpr int kWarps = 8;
  const auto warps = [](int n) { return (n + kWarps - 1) / kWarps; };
  // The blocks are known on the device only: each expert may end in a part of one.
  const int blocks = rows / kPlainRows + experts + 1;
  const int widest = max(p.routed.intermediate, p.shared.intermediate);
  cudaFuncSetAttribute(Sort, cudaFuncAttributeMaxDynamicSharedMemorySize, sort_bytes);
  for (const auto kernel : {GateUp<kElement>, Down<kElement>})
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kProductBytes);
  LaunchKernel(Sort, 1, kSortThreads, sort_bytes, stream, p);
  LaunchKernel(PrepareRows<kElement>, warps(tokens), kWarps * kWarp, 0, stream, p);
  LaunchKernel(GateUp<kElement>, dim3(2 * widest / kPlainOutputs, blocks), kProductThreads,
               kProductBytes, stream, p);
  if constexpr (kElement == Element::kFp8)
    LaunchKernel(QuantizeMiddle, warps(rows), kWarps * kWarp, 0, stream, p);
  LaunchKernel(Down<kElement>, dim3(p.padded_hidden / kPlainOutputs, blocks), kProductThreads,
               kProductBytes, stream, p);
  LaunchKernel(Combine, warps(tokens), kWarps * kWarp, 0, stream, p);
  return cudaGetLastError();
}

// splitmix64 of the index: a value does not depend on the launch.
__device__ float Uniform(uint64_t seed, int64_t i) {
  uint64_t z = seed + (static_cast<uint64_t>(i) + 1) * 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return static_cast<float>((z ^ (z >> 31)) >> 40) * 0x1p-23f - 1.0f;
}
__device__ int64_t GlobalThread() { return int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }
__device__ int64_t Threads() { return int64_t{gridDim.x} * blockDim.x; }

__global__ void RandomBf16(__nv_bfloat16* out, int64_t count, float scale, uint64_t seed) {
  for (int64_t i = GlobalThread(); i < count; i += Threads())
    out[i] = __float2bfloat16_rn(Uniform(seed, i) * scale);
}
__global__ void RandomFp8(uint8_t* out, int64_t count, uint64_t seed) {
  for (int64_t i = GlobalThread(); i < count; i += Threads())
    out[i] = __nv_cvt_float_to_fp8(Uniform(seed, i) * 448, __NV_SATFINITE, __NV_E4M3);
}
__global__ void Fill(float* out, int64_t count, float value) {
  for (int64_t i = GlobalThread(); i < count; i += Threads()) out[i] = value;
}

__global__ void Add(__nv_bfloat16* sums, const __nv_bfloat16* x, int64_t count) {
  for (int64_t i = GlobalThread(); i < count; i += Threads())
    sums[i] = __float2bfloat16_rn(__bfloat162float(sums[i]) + __bfloat162float(x[i]));
}
// Eight loads in flight a thread.
__global__ void __launch_bounds__(512) Read(const uint4* data, int64_t count, uint32_t* out) {
  constexpr int kAtOnce = 8;
  uint32_t mix = 0;
  for (int64_t i = GlobalThread(); i < count; i += kAtOnce * Threads()) {
    uint4 words[kAtOnce] = {};
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j)
      if (const int64_t at = i + j * Threads(); at < count) words[j] = __ldcs(&data[at]);
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) mix ^= words[j].x ^ words[j].y ^ words[j].z ^ words[j].w;
  }
  if (mix == 0x12345678) *out = mix;  // hardly ever
}

constexpr int kFillBlocks = 2048, kFillThreads = 256;

}  // namespace

cudaError_t LaunchPlain(const PlainParams& params, cudaStream_t stream) {
  return params.shape.element == Element::kFp8 ? Launch<Element::kFp8>(params, stream)
                                               : Launch<Element::kBf16>(params, stream);
}

cudaError_t LaunchRandomBf16(void* out, int64_t count, float scale, uint64_t seed,
                             cudaStream_t stream) {
  LaunchKernel(RandomBf16, kFillBlocks, kFillThreads, 0, stream, static_cast<__nv_bfloat16*>(out),
               count, scale, seed);
  return cudaGetLastError();
}
cudaError_t LaunchRandomFp8(void* out, int64_t count, uint64_t seed, cudaStream_t stream) {
  LaunchKernel(RandomFp8, kFillBlocks, kFillThreads, 0, stream, static_cast<uint8_t*>(out), count,
               seed);
  return cudaGetLastError();
}
cudaError_t LaunchFill(float* out, int64_t count, float value, cudaStream_t stream) {
  LaunchKernel(Fill, kFillBlocks, kFillThreads, 0, stream, out, count, value);
  return cudaGetLastError();
}

cudaError_t LaunchAdd(void* sums, const void* x, int64_t count, cudaStream_t stream) {
  LaunchKernel(Add, kFillBlocks, kFillThreads, 0, stream, static_cast<__nv_bfloat16*>(sums),
               static_cast<const __nv_bfloat16*>(x), count);
  return cudaGetLastError();
}
cudaError_t LaunchRead(const void* data, int64_t bytes, uint32_t* out, cudaStream_t stream) {
  constexpr int kBlocks = 132 * 4 * 8;
  LaunchKernel(Read, kBlocks, 512, 0, stream, static_cast<const uint4*>(data), bytes / 16, out);
  return cudaGetLastError();
}

}  // namespace sluice::moe_sm90
