#include "kernels/moe/cuda_sm90/tensor_map.h"

#include <cuda_runtime.h>

namespace sluice::moe_sm90 {

constexpr int kBoxBytes = 128;

Result<TensorMapEncoder> FindTensorMapEncoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                             12000, cudaEnableDefault, &found);
  if (error != cudaSuccess || found != cudaDriverEntryPointSuccess)
    return Error(Code::kUnsupported, "the driver has no cuTensorMapEncodeTiled: {}",
                 cudaGetErrorString(error));
  return reinterpret_cast<TensorMapEncoder>(function);
}

Status MakeTensorMap(TensorMapEncoder encode, Element element, const void* data, int64_t rows,
                     int64_t columns, int box_rows, CUtensorMap& map) {
  const auto element_bytes = static_cast<uint64_t>(ElementBytes(element));
  const cuuint64_t dims[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(columns) * element_bytes};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(kBoxBytes / element_bytes),
                            static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t every[] = {1, 1};
  const CUresult result = encode(
      &map,
      element == Element::kFp8 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
      2, const_cast<void*>(data), dims, strides, box, every, CU_TENSOR_MAP_INTERLEAVE_NONE,
      CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result == CUDA_SUCCESS) return Status();
  return Error(Code::kInternal, "tensor map of {} x {} at {}: driver error {}", rows, columns, data,
               static_cast<int>(result));
}

}  // namespace sluice::moe_sm90
