// Shapes, rows and weights as host and kernels see them.
#pragma once

#include <cstdint>

#include "kernels/linear/activation.h"
#include "kernels/moe/cuda_sm90/element.h"

namespace sluice::moe_sm90 {

inline constexpr int kRanksMax = 8, kExpertsMax = 512, kTopKMax = 32;
/// Kernels see padded widths; padding is zero. Wide tiles need 256 outputs, that is 128 columns of
/// an intermediate row; stages of narrow tiles need 256 bytes of K.
constexpr int PaddedHidden(int hidden) { return (hidden + 255) / 256 * 256; }
constexpr int PaddedIntermediate(int intermediate) { return (intermediate + 255) / 256 * 256; }

struct MoeShape {
  Element element = Element::kBf16;
  int ranks = 1;    // that share the device; each owns experts / ranks consecutive experts
  int experts = 0;  // of all ranks
  int top_k = 0;
  int hidden = 0;
  int intermediate = 0;
  int shared_intermediate = 0;  // 0: no shared expert
  int tokens_max = 0;           // of one rank
  Activation activation = Activation::kSilu;
};
/// One rank's part of a step.
struct RankArgs {
  int tokens;            // <= tokens_max
  const void* x;         // bf16 [tokens, hidden]
  const int32_t* ids;    // [tokens, top_k], each in [0, experts)
  const float* weights;  // [tokens, top_k]
  void* y;               // bf16 [tokens, hidden]
};

/// Experts of one width, one after the other. I and H are padded.
struct ExpertsView {
  int count = 0, hidden = 0, intermediate = 0;  // padded
  const void* gate_up = nullptr;                // [count, 2 I, H]: 8 rows of gate, 8 of up, ...
  const float* gate_up_scales = nullptr;        // [count, 2 I]; kFp8
  const void* down = nullptr;                   // [count, H, I]
  const float* down_scales = nullptr;           // [count, H]; kFp8
};

}  // namespace sluice::moe_sm90
