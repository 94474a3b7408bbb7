// How fast the copy engine feeds multiprocessors, without any arithmetic.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/moe/cuda_sm90/fault.h"

namespace sluice::moe_sm90 {

/// Boxes of 128 rows by 128 bytes of a matrix of bytes [box_rows_count * 128, columns]. Every CTA
/// (a multiprocessor each) takes pairs of boxes one above the other, as a wide weight tile has
/// them, into a ring of stages of 32 KiB.
struct StreamProbe {
  CUtensorMap map;
  int box_rows;     // pairs of boxes one above the other in the matrix: rows / 256
  int box_columns;  // boxes side by side: columns / 128
  int stages;       // 1 .. kProbeStagesMax
  int boxes;        // pairs that a CTA receives
  bool shared;      // CTAs read the whole matrix, eight together in the same order
  bool multicast;   // two CTAs of a cluster read one box of a pair each, for both
  Fault* fault;     // host memory
};
inline constexpr int kProbeStagesMax = 6, kProbePairBytes = 2 * 128 * 128;

/// `ctas`: an even number, at most the multiprocessors.
cudaError_t LaunchStreamProbe(const StreamProbe& probe, int ctas, cudaStream_t stream);

}  // namespace sluice::moe_sm90
