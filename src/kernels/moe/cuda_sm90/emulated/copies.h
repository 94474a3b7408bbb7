// mbarriers and the copy engine. Sources: PTX ISA, 9.7.13.15 ("mbarrier"), 5.5.7 ("Swizzling
// Modes"), 9.7.9.27 ("cp.async.bulk.tensor"); CUDA driver API, cuTensorMapEncodeTiled.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace sluice::emulated {

void InitBarrier(uint64_t* barrier, uint32_t arrivals);
/// Expects `bytes` more, then arrives.
void ArriveAtBarrier(uint64_t* barrier, uint32_t bytes);
/// Whether the phase of this parity is complete: mbarrier.try_wait.parity, which may give up.
/// `what` is for reports.
bool TryWaitAtBarrier(uint64_t* barrier, uint32_t parity, const char* what);

/// What a CUtensorMap holds here.
struct TensorMap {
  uint64_t magic;
  uint8_t* data;
  uint64_t columns, rows, row_bytes;
  uint32_t box_columns, box_rows, element_bytes;
};
inline constexpr uint64_t kTensorMapMagic = 0x7e4501a9;

/// The 16 bytes of shared memory at which the 16-byte chunk `chunk` of a row of 128 bytes at
/// `address` lands, in the 128-byte swizzle.
uint32_t SwizzledChunk(uint32_t address, int chunk);

/// Begins to copy a box; it lands, and completes its bytes on `barrier`, at some later moments.
void BeginCopy(void* shared, const CUtensorMap* map, int column, int row, uint64_t* barrier);

}  // namespace sluice::emulated
