#include "kernels/moe/cuda_sm90/emulated/products.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "formats/fp8/e4m3.h"
#include "kernels/moe/cuda_sm90/emulated/device.h"

namespace sluice::emulated {
namespace {

using moe_sm90::Element;

// "Matrix Descriptor Format": fields hold (x & 0x3FFFF) >> 4.
struct Descriptor {
  uint32_t start, stride, base_offset, swizzle;
};
uint32_t Decode(uint64_t descriptor, int bit) {
  return static_cast<uint32_t>(descriptor >> bit & 0x3FFF) << 4;
}
Descriptor DescriptorOf(uint64_t bits) {
  const uint64_t reserved =
      uint64_t{3} << 14 | uint64_t{3} << 30 | uint64_t{7} << 46 | uint64_t{0x3FF} << 52;
  if (bits & reserved) Trap("a matrix descriptor with reserved bits");
  return {.start = Decode(bits, 0),
          .stride = Decode(bits, 32),
          .base_offset = static_cast<uint32_t>(bits >> 49 & 7),
          .swizzle = static_cast<uint32_t>(bits >> 62)};
}

float Bf16At(const uint8_t* p) {
  uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

constexpr int kDepthMax = 32;

// out[row][k] of an operand of `rows` rows; elements of a row are 32 bytes.
void ReadOperand(uint64_t descriptor, int rows, Element element, float* out, int64_t row_stride,
                 int64_t k_stride) {
  for (int row = 0; row < rows; ++row)
    for (int chunk = 0; chunk < kProductBytes; chunk += 16) {
      const uint8_t* at = SharedMemory(OperandAddress(descriptor, row, chunk), 16);
      for (int i = 0; i < 16 / ElementBytes(element); ++i) {
        const int k = chunk / ElementBytes(element) + i;
        out[row * row_stride + k * k_stride] =
            element == Element::kFp8 ? E4M3Values()[at[i]] : Bf16At(at + 2 * i);
      }
    }
}

// d += a b^T in fp32, one chain a sum in ascending k, so that swapping the operands changes no bit.
// (The matrix unit adds the products of an instruction in another way, and of fp8 in fewer bits.)
void Multiply(const float (&a)[kProductRows][kDepthMax],
              const float (&b)[kDepthMax][kProductColumnsMax], int depth, int columns,
              float (&d)[kProductRows][kProductColumnsMax]) {
  constexpr int kAtOnce = 16;
  for (int m = 0; m < kProductRows; ++m)
    for (int n = 0; n < columns; n += kAtOnce) {
      float sums[kAtOnce];
      std::memcpy(sums, &d[m][n], sizeof sums);
      for (int k = 0; k < depth; ++k)
        for (int i = 0; i < kAtOnce; ++i) sums[i] += a[m][k] * b[k][n + i];
      std::memcpy(&d[m][n], sums, sizeof sums);
    }
}

// SLUICE_EMULATED_FP8_BITS: bits behind the point that a sum of fp8 products keeps after every
// instruction; the others are cut off. Without it, fp32's.
uint32_t Fp8SumMask() {
  const char* const text = std::getenv("SLUICE_EMULATED_FP8_BITS");
  const int bits = text ? std::clamp(std::atoi(text), 1, 23) : 23;
  return ~uint32_t{0} << (23 - bits);
}

void Execute(Warpgroup& group) {
  const Product product = group.products.front();
  group.products.pop_front();
  ++group.executed;
  const int depth = kProductBytes / ElementBytes(product.element);
  static float a[kProductRows][kDepthMax], b[kDepthMax][kProductColumnsMax];
  static float d[kProductRows][kProductColumnsMax];
  ReadOperand(product.a, kProductRows, product.element, &a[0][0], kDepthMax, 1);
  ReadOperand(product.b, product.columns, product.element, &b[0][0], 1, kProductColumnsMax);
  const int registers = product.columns / 2;
  for (int t = 0; t < kWarpgroupThreads; ++t)
    for (int i = 0; i < registers; ++i) {
      const Place place = PlaceOf(t, i);
      d[place.row][place.column] = group.registers[t][i];
    }
  Multiply(a, b, depth, product.columns, d);
  static const uint32_t fp8_mask = Fp8SumMask();
  const uint32_t mask = product.element == Element::kFp8 ? fp8_mask : ~uint32_t{0};
  for (int t = 0; t < kWarpgroupThreads; ++t)
    for (int i = 0; i < registers; ++i) {
      const Place place = PlaceOf(t, i);
      group.registers[t][i] =
          std::bit_cast<float>(std::bit_cast<uint32_t>(d[place.row][place.column]) & mask);
    }
}

Warpgroup& GroupOf(const Thread& thread) {
  const auto idx = static_cast<size_t>(thread.idx / kWarpgroupThreads);
  if (idx >= thread.cta->warpgroups.size()) Trap("a product of less than a warpgroup");
  auto& group = thread.cta->warpgroups[idx];
  if (!group) group = std::make_unique<Warpgroup>();
  return *group;
}

}  // namespace

// Figure "WGMMA .m64nNk16 register fragment layout for accumulator matrix D" (and .m64nNk32's,
// which is the same): warp w of the warpgroup has rows 16 w .. 16 w + 15. Of each eight columns, a
// thread has two neighbours in two rows: groups of four threads have a row of the upper eight with
// d0, d1, and the row eight further down with d2, d3. The next eight columns have the next four
// registers.
Place PlaceOf(int thread, int reg) {
  const int warp = thread / 32, group = thread % 32 / 4, in_group = thread % 4;
  const int of_four = reg % 4, eight_columns = reg / 4;
  const int row_of_warp = of_four < 2 ? group : group + 8;
  return {16 * warp + row_of_warp, 8 * eight_columns + in_group * 2 + of_four % 2};
}

// "Canonical Layouts", K-major, 128B swizzling: Swizzle<3, 4, 3> o ((8, m), (T, 2k)) : ((8T, SBO),
// (1, T)), where 8 T elements are 128 bytes: rows of 128 bytes, eight of them a pattern, the next
// pattern SBO bytes on ("Stride Dimension Byte Offset": from the first 8 rows to the next 8 rows;
// the leading one is not used). Swizzle<3, 4, 3> replaces address bits 4-6 by their exclusive or
// with bits 7-9. The pattern begins at a multiple of 1,024 bytes where the base offset is 0.
uint32_t OperandAddress(uint64_t descriptor, int row, int k) {
  const Descriptor d = DescriptorOf(descriptor);
  if (d.swizzle != 1 || d.base_offset != 0)
    Trap(
        "a matrix descriptor with another mode than 128-byte swizzling from a 1,024-byte boundary");
  const uint32_t address = d.start + static_cast<uint32_t>(row / 8) * d.stride +
                           static_cast<uint32_t>(row % 8) * 128 + static_cast<uint32_t>(k);
  return address ^ (address >> 3 & 0x70);
}

void FenceProducts() {
  Step();
  Here().products.fenced = true;
}

void IssueProduct(float* sums, int columns, Element element, uint64_t a, uint64_t b) {
  Step();
  Thread& me = Here();
  ThreadProducts& mine = me.products;
  Warpgroup& group = GroupOf(me);
  const int t = me.idx % kWarpgroupThreads;
  if (!mine.fenced) Trap("a product without a fence behind what touched its sums");
  if (mine.sums && (mine.sums != sums || mine.count != columns / 2))
    Trap("products with different sums in flight");
  if (!mine.sums) {
    mine.sums = sums;
    mine.count = columns / 2;
    std::copy_n(sums, mine.count, group.registers[t]);
    std::fill_n(sums, mine.count, NAN);
  }
  const int64_t at = mine.issued++ - group.executed;
  if (at == static_cast<int64_t>(group.products.size()))
    group.products.push_back({.a = a, .b = b, .columns = columns, .element = element});
  Product& product = group.products[static_cast<size_t>(at)];
  if (product.a != a || product.b != b || product.columns != columns || product.element != element)
    Trap("threads of a warpgroup that issue different products");
  if (++product.issued < kWarpgroupThreads) return;
  // Now or when it is waited for.
  if (at == 0 && RandomBelow(4) == 0) Execute(group);
  WakeAll(&group);
}

void CommitProducts() {
  Step();
  ThreadProducts& mine = Here().products;
  mine.group_ends.push_back(mine.issued);
}

void WaitProducts(int pending) {
  Step();
  Thread& me = Here();
  ThreadProducts& mine = me.products;
  Warpgroup& group = GroupOf(me);
  const auto groups = static_cast<int>(mine.group_ends.size());
  if (groups <= pending) return;
  const int64_t needed = mine.group_ends[static_cast<size_t>(groups - 1 - pending)];
  while (group.executed < needed) {
    if (group.products.front().issued == kWarpgroupThreads) {
      Execute(group);
    } else {
      Block({.what = "the warpgroup's other threads to issue a product",
             .on = &group,
             .idx = group.executed,
             .found = group.products.front().issued,
             .needed = kWarpgroupThreads});
    }
  }
  if (needed < mine.issued) return;
  if (mine.sums) std::copy_n(group.registers[me.idx % kWarpgroupThreads], mine.count, mine.sums);
  mine.sums = nullptr;
  mine.fenced = false;
  mine.group_ends.clear();
}

}  // namespace sluice::emulated
