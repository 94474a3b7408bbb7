// The matrix instruction of a warpgroup. Source: PTX ISA, 9.7.15.5 ("wgmma.mma_async").
#pragma once

#include <cstdint>
#include <deque>

#include "kernels/moe/cuda_sm90/element.h"

namespace sluice::emulated {

inline constexpr int kProductRows = 64, kProductColumnsMax = 256, kProductBytes = 32;

/// One d += a b^T that not all threads may have issued yet.
struct Product {
  uint64_t a = 0, b = 0;
  int columns = 0;
  moe_sm90::Element element = moe_sm90::Element::kBf16;
  int issued = 0;  // by threads
};
struct Warpgroup {
  std::deque<Product> products;  // numbers from `executed` on
  int64_t executed = 0;
  float registers[128][kProductColumnsMax / 2];  // of the sums, while products are in flight
};

/// Where register i of thread t of a warpgroup lies in d.
struct Place {
  int row, column;
};
Place PlaceOf(int thread, int reg);
/// Shared address of byte k (0 .. 31) of row `row` of an operand.
uint32_t OperandAddress(uint64_t descriptor, int row, int k);

void FenceProducts();
/// `sums` [columns / 2] are not to be touched until a wait: until then they are poisoned.
void IssueProduct(float* sums, int columns, moe_sm90::Element element, uint64_t a, uint64_t b);
void CommitProducts();
/// Until at most `pending` groups are unfinished.
void WaitProducts(int pending);

}  // namespace sluice::emulated
