// Peak rates of the instructions that products are made of, with operands from registers, L1 or L2.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/machine.h"
#include "bench/machine_ceilings.h"

namespace sluice::bench {

/// A multiply-accumulate instruction in a loop of independent chains.
struct PeakLoop {
  const char* product;         // "fp32 FMA", "bf16 dot", "int8 madd", "int8 dot", "... tiles"
  const char* isa;             // "avx2", "avx_vnni", "avx512", "amx"
  uint32_t needs;              // Feature bits
  int64_t step_bytes;          // of operands that a step reads from memory
  int64_t step_operations;     // multiplications and additions
  void (*registers)(int64_t);  // so many steps
  void (*memory)(const char* data, int64_t bytes, int64_t steps);  // over and over the same bytes
};

/// Every loop, whether or not this machine can run it.
std::span<const PeakLoop> PeakLoops();

/// Of the instruction that a product kernel (PanelKernel::name) is made of; `needs` may be missing
/// only where the kernel's are.
const PeakLoop& PeakOfKernel(std::string_view kernel);

/// The same of a kernel of quantised rows (IntegerKernel::name).
const PeakLoop& PeakOfIntegerKernel(std::string_view kernel);

enum class Feed { kRegisters, kL1, kL2 };

/// Operations per second of all lanes together; about 5 ms. `loop.needs` must be there.
double MeasurePeak(const PeakLoop& loop, Feed feed, int lanes, const RunLanes& run);

// Pieces of the table, by instruction set.
std::span<const PeakLoop> Avx2PeakLoops();
std::span<const PeakLoop> Avx512PeakLoops();
std::span<const PeakLoop> AmxPeakLoops();

}  // namespace sluice::bench
