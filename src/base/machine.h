// What this processor can do. Kernels are chosen by it at run time; a flag can hide features, so
// that every variant that the machine has can be tested and measured on it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace sluice {

/// Instruction-set features a kernel variant may need, as a bit set. Any machine that runs the
/// program at all has AVX2, FMA and F16C (the whole program is compiled for them).
enum Feature : uint32_t {
  kAnything = 0,
  kAvx2 = 1u << 0,
  kAvx512 = 1u << 1,  // F, BW, VL, DQ, CD
  kAvx512Vnni = 1u << 2,
  kAvx512Fp16 = 1u << 3,
  kAmxBf16 = 1u << 4,  // tile + bf16, and the kernel has granted tile state
  kAmxInt8 = 1u << 5,
  kAvx512Vbmi = 1u << 6,
  kAvx512Bf16 = 1u << 7,
  kFastBf16Dot = 1u << 8,  // vdpbf16ps multiplies faster than FMA does: AMD since Zen 4
  kAvxVnni = 1u << 9,      // of 256 bits, without AVX-512
};

/// What kernels of vdpbf16ps need: that it is faster than FMA (every such processor has VBMI).
inline constexpr uint32_t kDotProducts = kAvx512 | kAvx512Vbmi | kAvx512Bf16 | kFastBf16Dot;

/// A set of features and its name.
struct Machine {
  uint32_t features = kAvx2;
  bool Has(uint32_t needed) const { return (features & needed) == needed; }
};

/// Asks the processor once (and, for AMX, the kernel's permission); later calls return the same.
const Machine& ThisMachine();

/// The machine limited to what `isa` names: "auto" (everything), "avx2", "avx_vnni", "avx512",
/// "vnni", "avx512_vbmi", "avx512_bf16" (vdpbf16ps, fast here or not), "amx".
/// Errors: kInvalidArgument for an unknown name, kUnsupported if the machine lacks it.
Result<Machine> LimitedMachine(std::string_view isa);

/// "avx2+avx512+amx_bf16".
std::string DescribeFeatures(const Machine& machine);

/// The processor's own name, for logs and reports.
std::string ProcessorName();

/// Processors this process may run on: affinity mask and cgroup CPU quota, at least 1.
int UsableCores();

/// Bytes of memory this process may use: physical memory or the cgroup's limit, the smaller.
uint64_t MemoryLimitBytes();

/// Bytes still available within that limit now.
uint64_t MemoryAvailableBytes();

}  // namespace sluice
