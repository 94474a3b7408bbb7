// How fast each decoder turns stored weights into the bfloat16s that products multiply: the very
// code of the kernels, from L2 to a block in L1, which is where they use it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/machine.h"
#include "bench/machine_ceilings.h"

namespace sluice::bench {

/// Inputs of a panel that are decoded at a time: 16 KiB of bfloat16s.
inline constexpr int64_t kUnpackInputs = 256;

struct UnpackLoop {
  const char* format;   // as --format names it; "bf16": copied as it is, what a decoder cannot beat
  const char* isa;      // "avx2", "avx512", "avx512_vbmi"
  uint32_t needs;       // Feature bits
  int64_t slice_bytes;  // of kUnpackInputs stored inputs
  void (*decode)(const std::byte* slice, std::byte* bfloat16);  // both aligned to 64 bytes
};

/// Every decoder, whether or not this machine can run it.
std::span<const UnpackLoop> UnpackLoops();

/// Stored bytes per second of all lanes together; a few ms. `loop.needs` must be there.
double MeasureUnpack(const UnpackLoop& loop, int lanes, const RunLanes& run);

// Pieces of the table, by instruction set.
std::span<const UnpackLoop> Avx2UnpackLoops();
std::span<const UnpackLoop> Avx512UnpackLoops();
std::span<const UnpackLoop> Avx512VbmiUnpackLoops();

}  // namespace sluice::bench
