// Descriptions of matrices for the copy engine.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "base/status.h"
#include "kernels/moe/cuda_sm90/element.h"

namespace sluice::moe_sm90 {

using TensorMapEncoder = decltype(&cuTensorMapEncodeTiled);

/// The driver's function, found at run time: nothing links against the driver. Errors:
/// kUnsupported.
Result<TensorMapEncoder> FindTensorMapEncoder();

/// Boxes of 128 bytes by `box_rows` rows of a dense [rows, columns] matrix, in the 128-byte
/// swizzle. Errors: kInternal with the driver's number.
Status MakeTensorMap(TensorMapEncoder encode, Element element, const void* data, int64_t rows,
                     int64_t columns, int box_rows, CUtensorMap& map);

}  // namespace sluice::moe_sm90
