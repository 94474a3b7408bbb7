// What an instruction set contributes to packing: checkpoint rows into the lines of a panel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "formats/weight_format.h"
#include "tensor/dtype.h"

namespace sluice {

/// What rows are made of: values, which a format rounds or quantises, or the codes of its own,
/// a byte each.
enum class RowElement : uint8_t { kBf16, kFloat, kCode };
inline constexpr int kRowElements = 3;

/// Outputs that kernels handle together: those of a panel, or of half a panel.
inline constexpr int64_t kHalfPanelOutputs = kPanelOutputs / 2;
/// Inputs that they handle together, and the most of one call.
inline constexpr int64_t kPackUnit = 64;
inline constexpr int64_t kPackChunk = 512;

/// A piece of a panel, or of half of one: `inputs` inputs of `outputs` outputs.
struct PackChunk {
  const void* const* rows;  // [outputs], each at its first input of the chunk
  int64_t outputs;          // 16 or 32
  int64_t inputs;           // a multiple of kPackUnit and of `group`, at most kPackChunk
  const char* ahead;        // as many bytes as the chunk's, to be fetched meanwhile; never read
  std::byte* to;            // the chunk's first input of the first output, in the panel's order
  const float* divisors;    // int8, fp8: [outputs], what a row's values are divided by; never 0
  int64_t group;            // int4, of values: what is written for each group of inputs
  Bf16* scales;             //   [inputs / group][32], the first output's; 64-byte aligned, as `to`,
                            //   if that is the panel's
  uint8_t* zero_points;     //   the same, or null: none
};

/// Kernels of one instruction set.
struct PackKernels {
  const char* name;
  uint32_t needs;  // Feature bits
  /// The largest magnitude of a row of finite bfloat16s or floats.
  float (*largest[2])(const void* row, int64_t count);
  /// By format and element; null for codes of bf16.
  void (*pack[kWeightFormats][kRowElements])(const PackChunk& chunk);
};

extern const PackKernels kPackAvx512;
extern const PackKernels kPackAvx2;

/// Best first; the last one suits every machine.
std::span<const PackKernels* const> AllPackKernels();

}  // namespace sluice
