#include "formats/packing/pack_rows.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <new>
#include <vector>

#include "base/machine.h"
#include "base/random.h"
#include "formats/fp8/quantize.h"
#include "formats/int4/quantize.h"
#include "formats/int8/quantize.h"
#include "formats/panel_order.h"

namespace sluice {
namespace {

constexpr uint8_t kUntouched = 0xA5;

template <class T>
struct LineAligned {
  using value_type = T;
  LineAligned() = default;
  template <class Other>
  LineAligned(const LineAligned<Other>&) {}  // NOLINT: as allocators are
  T* allocate(size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(64)));
  }
  void deallocate(T* at, size_t) { ::operator delete(at, std::align_val_t(64)); }
  bool operator==(const LineAligned&) const = default;
};
template <class T>
using AlignedVector = std::vector<T, LineAligned<T>>;

// A packed matrix's memory, all of it kUntouched at first.
struct Memory {
  Memory(WeightFormat format, int64_t group, bool zero_points, int64_t outputs, int64_t inputs)
      : format(format), group(group), blocks(group ? (inputs + group - 1) / group : 1) {
    const int64_t panels_count = (outputs + kPanelOutputs - 1) / kPanelOutputs;
    padded = (inputs + kPanelInputs - 1) / kPanelInputs * kPanelInputs;
    panel_bytes = padded * kPanelOutputs * (format == WeightFormat::kBf16 ? 4 : 2) /
                  (format == WeightFormat::kInt4 ? 4 : 2);
    storage.assign(static_cast<size_t>(panels_count * panel_bytes), kUntouched);
    const auto count = static_cast<size_t>(panels_count * kPanelOutputs * blocks);
    scales.assign(count, 7);
    int4_scales.assign(count, Bf16{7});
    zeros.assign(zero_points ? count : 0, kUntouched);
  }
  uint8_t* panels() { return storage.data(); }
  PackTarget target() {
    return {.format = format,
            .panels = reinterpret_cast<std::byte*>(panels()),
            .panel_bytes = panel_bytes,
            .scales = scales.data(),
            .int4 = {.panels = panels(),
                     .panel_bytes = panel_bytes,
                     .scales = int4_scales.data(),
                     .zero_points = zeros.empty() ? nullptr : zeros.data(),
                     .blocks = blocks,
                     .group = group}};
  }

  WeightFormat format;
  int64_t group, blocks, padded, panel_bytes;
  AlignedVector<uint8_t> storage;
  std::vector<float> scales;
  AlignedVector<Bf16> int4_scales;
  std::vector<uint8_t> zeros;
};

// The definition: quantisers and the order of the elements.
void PackSlowly(Memory& to, int64_t output_begin, View<const float, 2> rows, bool zero_points) {
  const int64_t inputs = rows.dim(1);
  const auto set_byte = [&](int64_t at, uint8_t code) { to.panels()[at] = code; };
  const bool int4 = to.format == WeightFormat::kInt4;
  const Fp8Quantized fp8 = QuantizeFp8Channel(rows);
  const Int8Quantized int8 = QuantizeInt8(rows);
  const Int4Quantized int4s = QuantizeInt4(rows, int4 ? to.group : 32, zero_points);
  for (int64_t r = 0; r < rows.dim(0); ++r) {
    const int64_t output = output_begin + r;
    if (to.format == WeightFormat::kFp8E4M3) to.scales[output] = fp8.Scales()(r, 0);
    if (to.format == WeightFormat::kInt8) to.scales[output] = int8.Scales()(r, 0);
    for (int64_t b = 0; int4 && b < to.blocks; ++b) {
      const int64_t at =
          (output / kPanelOutputs * to.blocks + b) * kPanelOutputs + output % kPanelOutputs;
      to.int4_scales[at] = ToBf16(int4s.Scales()(r, b));
      if (zero_points) to.zeros[at] = int4s.ZeroPoints()(r, b);
    }
    for (int64_t i = 0; i < to.padded; ++i) {
      const bool there = i < inputs;
      switch (to.format) {
        case WeightFormat::kBf16: {
          const uint16_t bits = there ? ToBf16(rows(r, i)).bits : 0;
          std::memcpy(to.panels() + 2 * PanelElement(to.panel_bytes / 2, output, i), &bits, 2);
          break;
        }
        case WeightFormat::kFp8E4M3:
          set_byte(PanelElement(to.panel_bytes, output, i), there ? fp8.Codes()(r, i) : 0);
          break;
        case WeightFormat::kInt8:
          set_byte(PanelQuadByte(to.panel_bytes, output, i), there ? int8.Codes()(r, i) : 0);
          break;
        case WeightFormat::kInt4: {
          const uint8_t zero = zero_points ? int4s.ZeroPoints()(r, to.blocks - 1) : kInt4Zero;
          const int code = there ? int4s.Codes()(r, i) : zero, shift = PanelNibbleShift(i);
          uint8_t& byte = to.panels()[PanelNibbleByte(to.panel_bytes, output, i)];
          byte = static_cast<uint8_t>((byte & ~(15 << shift)) | code << shift);
          break;
        }
      }
    }
  }
}

// Rows of one kind each: ordinary weights, a common factor of any size, subnormals, zeros of both
// signs, few different values (so that quotients lie half-way), one large value among small ones.
std::vector<float> Weights(int64_t outputs, int64_t inputs, SplitMix64& random) {
  std::vector<float> out;
  for (int64_t o = 0; o < outputs; ++o) {
    const uint64_t kind = random.Below(7);
    const float factor =
        kind == 1 ? std::ldexp(1.0f, static_cast<int>(random.Below(250)) - 130) : 1.0f;
    for (int64_t i = 0; i < inputs; ++i) {
      float x = random.Normal() * factor;
      if (kind == 2)
        x = std::bit_cast<float>(static_cast<uint32_t>(random.Below(1 << 24)) |
                                 static_cast<uint32_t>(random.Below(2) << 31));
      if (kind == 3) x = random.Below(9) ? 0.0f : -0.0f;
      if (kind == 4) x = (static_cast<float>(random.Below(9)) - 4) / 4;
      if (kind == 5 && i != inputs / 2) x *= 1e-4f;
      if (kind == 6) x = random.Below(2) ? 3e38f : -3.2e38f * static_cast<float>(random.Below(3));
      out.push_back(std::isfinite(RoundToBf16(x)) ? RoundToBf16(x) : 0);
    }
  }
  return out;
}

struct Layout {
  WeightFormat format;
  int64_t group = 0;
  bool zero_points = false;
};
constexpr Layout kLayouts[] = {
    {WeightFormat::kBf16},      {WeightFormat::kFp8E4M3},        {WeightFormat::kInt8},
    {WeightFormat::kInt4, 32},  {WeightFormat::kInt4, 64},       {WeightFormat::kInt4, 128},
    {WeightFormat::kInt4, 256}, {WeightFormat::kInt4, 32, true}, {WeightFormat::kInt4, 128, true}};

void ExpectSame(const Memory& a, const Memory& b, const std::string& what) {
  ASSERT_EQ(a.storage.size(), b.storage.size());
  for (size_t i = 0; i < a.storage.size(); ++i)
    ASSERT_EQ(a.storage[i], b.storage[i]) << what << " byte " << i;
  for (size_t i = 0; i < a.scales.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(a.scales[i]), std::bit_cast<uint32_t>(b.scales[i])) << what;
    ASSERT_EQ(a.int4_scales[i].bits, b.int4_scales[i].bits) << what << " scale " << i;
  }
  ASSERT_EQ(a.zeros, b.zeros) << what;
}

// Rows in pieces that begin and end anywhere in a panel.
TEST(PackRows, EveryInstructionSetFollowsTheQuantisersBitForBitAndWritesNothingElse) {
  SplitMix64 random(1);
  for (const PackKernels* kernels : AllPackKernels()) {
    if (!ThisMachine().Has(kernels->needs)) continue;
    for (const Layout& layout : kLayouts)
      for (const auto& [outputs, inputs] :
           {std::pair{1, 1}, {16, 64}, {32, 512}, {33, 31}, {70, 65}, {64, 600}, {50, 1100}})
        for (const int64_t begin : {0, 16, 5}) {
          const std::vector<float> w = Weights(outputs, inputs, random);
          std::vector<Bf16> narrow;
          for (const float x : w) narrow.push_back(ToBf16(x));
          const View<const float, 2> floats(w.data(), {outputs, inputs});
          const View<const Bf16, 2> bf16s(narrow.data(), {outputs, inputs});
          const Memory untouched(layout.format, layout.group, layout.zero_points,
                                 outputs + begin + 1, inputs);
          Memory expected = untouched, from_floats = untouched, from_bf16s = untouched;
          PackSlowly(expected, begin, floats, layout.zero_points);
          PackRows(from_floats.target(), begin, floats, *kernels);
          PackRows(from_bf16s.target(), begin, bf16s, *kernels);
          const std::string what = std::string(kernels->name) + " format " +
                                   std::to_string(static_cast<int>(layout.format)) + " " +
                                   std::to_string(outputs) + "x" + std::to_string(inputs) + "+" +
                                   std::to_string(begin) + " groups of " +
                                   std::to_string(layout.group);
          ExpectSame(from_floats, expected, what + " floats");
          ExpectSame(from_bf16s, expected, what + " bfloat16s");
        }
  }
}

// The division by way of a reciprocal: every mantissa of a value by every mantissa of what makes
// the divisor (a row's largest value), over the binades in which codes differ from 0.
TEST(PackRows, DividesEveryBfloat16ByEveryDivisorAsDivisionDoes) {
  constexpr int64_t kInputs = 1 + 20 * 128;
  std::vector<Bf16> rows;
  for (uint16_t largest = 0; largest < 128; ++largest) {
    const uint16_t bits = static_cast<uint16_t>(127 << 7 | largest);
    rows.push_back({bits});
    for (uint16_t binade = 0; binade < 20; ++binade)
      for (uint16_t mantissa = 0; mantissa < 128; ++mantissa) {
        const auto x = static_cast<uint16_t>((127 - binade) << 7 | mantissa);
        rows.push_back({x <= bits ? x : bits});
      }
  }
  std::vector<float> wide;
  for (const Bf16 x : rows) wide.push_back(ToFloat(x));
  for (const PackKernels* kernels : AllPackKernels()) {
    if (!ThisMachine().Has(kernels->needs)) continue;
    for (const Layout& layout : kLayouts) {
      Memory expected(layout.format, layout.group, layout.zero_points, 128, kInputs);
      Memory actual = expected;
      PackSlowly(expected, 0, {wide.data(), {128, kInputs}}, layout.zero_points);
      PackRows(actual.target(), 0, View<const Bf16, 2>(rows.data(), {128, kInputs}), *kernels);
      ExpectSame(actual, expected, kernels->name);
    }
  }
}

TEST(PackRows, EveryInstructionSetPlacesCodesAndWritesNothingElse) {
  SplitMix64 random(2);
  for (const PackKernels* kernels : AllPackKernels()) {
    if (!ThisMachine().Has(kernels->needs)) continue;
    for (const Layout& layout : kLayouts)
      for (const auto& [outputs, inputs] : {std::pair{1, 1}, {32, 512}, {70, 65}, {50, 1100}})
        for (const int64_t begin : {0, 16, 5}) {
          if (layout.format == WeightFormat::kBf16) continue;
          std::vector<uint8_t> codes(static_cast<size_t>(outputs * inputs));
          const bool int4 = layout.format == WeightFormat::kInt4;
          for (uint8_t& c : codes) c = static_cast<uint8_t>(random.Below(int4 ? 16 : 256));
          const Memory untouched(layout.format, layout.group, layout.zero_points,
                                 outputs + begin + 1, inputs);
          Memory expected = untouched, actual = untouched;
          for (int64_t o = 0; o < outputs; ++o)
            for (int64_t i = 0; i < expected.padded; ++i) {
              const uint8_t code = i < inputs ? codes[static_cast<size_t>(o * inputs + i)] : 0;
              const int64_t bytes = expected.panel_bytes, output = begin + o;
              if (int4) {
                uint8_t& byte = expected.panels()[PanelNibbleByte(bytes, output, i)];
                const int shift = PanelNibbleShift(i);
                byte = static_cast<uint8_t>((byte & ~(15 << shift)) | code << shift);
              } else {
                expected.panels()[layout.format == WeightFormat::kInt8
                                      ? PanelQuadByte(bytes, output, i)
                                      : PanelElement(bytes, output, i)] = code;
              }
            }
          PackRows(actual.target(), begin, View<const uint8_t, 2>(codes.data(), {outputs, inputs}),
                   *kernels);
          ExpectSame(actual, expected, kernels->name);
        }
  }
}

}  // namespace
}  // namespace sluice
