// The last step of a mixture: one token's expert rows to its output row.
#pragma once

#include <cstdint>

#include "tensor/exec.h"

namespace sluice {

/// y = round( round( sum_j weights[slots[j]] * rows[slots[j]] ) + shared ), the sum from j = 0 on
/// by FMAs.
struct CombineArgs {
  const float* rows;  // row r starts at rows + r * stride
  int64_t stride;
  const int32_t* slots;  // [top_k]
  const float* weights;  // of every row
  int64_t top_k;
  const float* shared;  // [columns] or none
  int64_t begin, end;   // columns
  Rounding rounding;
  float* y;  // whole row
};
void CombineRowsAvx2(const CombineArgs& args);
void CombineRowsAvx512(const CombineArgs& args);

}  // namespace sluice
