// moe_sm90_roofs: what this GPU reaches at all, on random data: dense products through cuBLASLt
// (8192^3 and an expert's shapes; fp8 with a scale a row and a column), and a copy's bandwidth.
// The last line is what moe_sm90_bench takes as SLUICE_ROOFS.
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <fmt/core.h>

#include "kernels/moe/cuda_sm90/bench_timing.h"
#include "kernels/moe/cuda_sm90/device_moe.h"
#include "kernels/moe/cuda_sm90/plain.h"

namespace sluice::moe_sm90 {
namespace {

constexpr size_t kWorkspaceBytes = 64 << 20;

void MustLt(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  std::fprintf(stderr, "%s: %s\n", what, cublasLtGetStatusString(status));
  std::exit(1);
}

DeviceBuffer Memory(uint64_t bytes) {
  auto buffer = DeviceBuffer::Allocate(bytes, "bench data");
  if (!buffer.ok()) Must(cudaErrorMemoryAllocation, buffer.status().message().c_str());
  return std::move(*buffer);
}

// d[m, n] = a[m, k] b[n, k]^T in bf16; TFLOP/s, or 0 where the library has no way to do it.
double Product(cublasLtHandle_t handle, cudaStream_t stream, Element element, int64_t m, int64_t n,
               int64_t k) {
  const bool fp8 = element == Element::kFp8;
  const DeviceBuffer a = Memory(m * k * ElementBytes(element)), workspace = Memory(kWorkspaceBytes);
  const DeviceBuffer b = Memory(n * k * ElementBytes(element)), d = Memory(m * n * 2);
  const DeviceBuffer a_scales = Memory(m * 4), b_scales = Memory(n * 4);
  for (const auto& [buffer, count, seed] : {std::tuple(&a, m * k, 1), std::tuple(&b, n * k, 2)})
    Must(fp8 ? LaunchRandomFp8(buffer->data(), count, seed, stream)
             : LaunchRandomBf16(buffer->data(), count, 1, seed, stream),
         "random data");
  Must(LaunchFill(a_scales.data<float>(), m, 1e-3f, stream), "scales");
  Must(LaunchFill(b_scales.data<float>(), n, 1e-3f, stream), "scales");

  // The library's matrices are column-major: d^T[n, m] = (b^T)^T a^T.
  cublasLtMatmulDesc_t matmul;
  MustLt(cublasLtMatmulDescCreate(&matmul, CUBLAS_COMPUTE_32F, CUDA_R_32F), "matmul");
  const cublasOperation_t transpose = CUBLAS_OP_T;
  const auto set = [&](cublasLtMatmulDescAttributes_t name, const auto& value) {
    MustLt(cublasLtMatmulDescSetAttribute(matmul, name, &value, sizeof(value)), "attribute");
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, transpose);
  if (fp8) {
    const int32_t mode = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    const void *left = b_scales.data(), *right = a_scales.data();
    const int8_t fast = 1;
    set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, mode);
    set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, mode);
    set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, left);
    set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, right);
    set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, fast);
  }
  const cudaDataType type = fp8 ? CUDA_R_8F_E4M3 : CUDA_R_16BF;
  cublasLtMatrixLayout_t left, right, out;
  MustLt(cublasLtMatrixLayoutCreate(&left, type, k, n, k), "layout");
  MustLt(cublasLtMatrixLayoutCreate(&right, type, k, m, k), "layout");
  MustLt(cublasLtMatrixLayoutCreate(&out, CUDA_R_16BF, n, m, n), "layout");
  cublasLtMatmulPreference_t preference;
  MustLt(cublasLtMatmulPreferenceCreate(&preference), "preference");
  MustLt(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                              &kWorkspaceBytes, sizeof(kWorkspaceBytes)),
         "preference");
  cublasLtMatmulHeuristicResult_t found;
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle, matmul, left, right, out,
                                                               out, preference, 1, &found, &count);
  double tflops = 0;
  if (status == CUBLAS_STATUS_SUCCESS && count > 0) {
    const float one = 1, zero = 0;
    const Times times = TimeRuns(
        stream, 21, [] {},
        [&] {
          MustLt(cublasLtMatmul(handle, matmul, &one, b.data(), left, a.data(), right, &zero,
                                d.data(), out, d.data(), out, &found.algo, workspace.data(),
                                kWorkspaceBytes, stream),
                 "product");
        });
    tflops = 2e-9 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) /
             times.median;
    fmt::print("{:4} {:5} x {:5} x {:5}  {:7.1f} TFLOP/s ({:.4f} ms)\n", fp8 ? "fp8" : "bf16", m, n,
               k, tflops, times.median);
  } else {
    fmt::print("{:4} {:5} x {:5} x {:5}  cuBLASLt has no algorithm\n", fp8 ? "fp8" : "bf16", m, n,
               k);
  }
  cublasLtMatmulPreferenceDestroy(preference);
  for (cublasLtMatrixLayout_t layout : {left, right, out}) cublasLtMatrixLayoutDestroy(layout);
  cublasLtMatmulDescDestroy(matmul);
  return tflops;
}

// TB/s, bytes read and written.
double Copy(cudaStream_t stream) {
  constexpr uint64_t kBytes = uint64_t{4} << 30;
  const DeviceBuffer from = Memory(kBytes), to = Memory(kBytes);
  Must(LaunchRandomFp8(from.data(), kBytes, 3, stream), "random data");
  const Times times = TimeRuns(
      stream, 9, [] {},
      [&] {
        Must(cudaMemcpyAsync(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice, stream),
             "copy");
      });
  const double rate = 2e-9 * static_cast<double>(kBytes) / times.median;
  fmt::print("copy {:.2f} TB/s\n", rate);
  return rate;
}

int Main() {
  if (const Status device = CheckDevice(); !device.ok()) {
    fmt::print("{}\n", device.message());
    return 0;
  }
  cudaStream_t stream;
  Must(cudaStreamCreate(&stream), "stream");
  cublasLtHandle_t handle;
  MustLt(cublasLtCreate(&handle), "cuBLASLt");
  double rates[2] = {};
  for (const Element element : {Element::kBf16, Element::kFp8}) {
    rates[static_cast<int>(element)] = Product(handle, stream, element, 8192, 8192, 8192);
    Product(handle, stream, element, 4096, 4096, 8192);  // gate and up of Ling-2.6-1T
    Product(handle, stream, element, 4096, 8192, 2048);  // down
  }
  const double bandwidth = Copy(stream);
  fmt::print("{:.1f} {:.1f} {:.3f}\n", rates[0], rates[1], bandwidth);
  cublasLtDestroy(handle);
  return 0;
}

}  // namespace
}  // namespace sluice::moe_sm90

int main() { return sluice::moe_sm90::Main(); }
