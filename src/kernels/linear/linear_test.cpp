#include "kernels/linear/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string_view>
#include <tuple>

#include "base/trace.h"
#include "formats/fp8/e4m3.h"
#include "formats/fp8/quantize.h"
#include "kernels/linear/integer/integer_kernel.h"
#include "kernels/linear/linear_variants.h"
#include "kernels/linear/panel_amx_emulated.h"
#include "kernels/testing.h"

namespace sluice {
namespace {

constexpr WeightLayout kBf16, kFp8Channel{WeightFormat::kFp8E4M3, 0},
    kFp8Block{WeightFormat::kFp8E4M3, 128}, kFp8SmallBlock{WeightFormat::kFp8E4M3, 32};
constexpr WeightLayout kInt8{WeightFormat::kInt8}, kInt4{WeightFormat::kInt4, 128},
    kInt4Small{WeightFormat::kInt4, 32}, kInt4Zeros{WeightFormat::kInt4, 64, true};
constexpr WeightLayout kLayouts[] = {kBf16, kFp8Channel, kFp8Block,  kFp8SmallBlock,
                                     kInt8, kInt4,       kInt4Small, kInt4Zeros};

std::string Name(WeightLayout layout) { return LayoutName(layout); }

PackedMatrix Packed(const std::vector<float>& w, int64_t outputs, int64_t inputs,
                    WeightLayout layout) {
  PackedMatrix packed = std::move(*PackedMatrix::Allocate(layout, outputs, inputs));
  const View<const float, 2> rows(w.data(), {outputs, inputs});
  if (layout.format != WeightFormat::kFp8E4M3) {
    packed.Pack(0, rows);
    return packed;
  }
  const Fp8Quantized q = layout == kFp8Channel
                             ? QuantizeFp8Channel(rows)
                             : QuantizeFp8(rows, layout.scale_inputs, layout.scale_inputs);
  packed.PackCodes(0, q.Codes());
  packed.SetScales(0, outputs, q.Scales(), q.scale_rows);
  return packed;
}

struct Case {
  int64_t rows, outputs, inputs;
  std::vector<float> x, bias;
  PackedMatrix weight;
  Rounding rounding = Rounding::kNone;
  bool with_bias = true;

  Case(uint64_t seed, int64_t rows, int64_t outputs, int64_t inputs, WeightLayout layout = kBf16)
      : rows(rows), outputs(outputs), inputs(inputs) {
    SplitMix64 random(seed);
    x = RandomFloats(random, rows * inputs, 1, true);
    bias = RandomFloats(random, outputs);
    const auto w = RandomFloats(random, outputs * inputs, 1, true);
    weight = Packed(w, outputs, inputs, layout);
  }

  LinearArgs Args(View<float, 2> y) const {
    return {.x = {x.data(), {rows, inputs}},
            .weight = &weight,
            .bias = with_bias ? bias.data() : nullptr,
            .rounding = rounding,
            .bf16_inputs = true,
            .y = y};
  }

  // Of `count` rows from `begin` on; y rows are wider than the outputs, and must stay so untouched.
  std::vector<float> Run(const Variant<LinearArgs>& variant, int64_t begin, int64_t count,
                         Exec& exec) const {
    constexpr float kUntouched = 12345;
    const int64_t stride = outputs + 3;
    std::vector<float> wide(count * stride, kUntouched), y;
    LinearArgs args = Args(View<float, 2>(wide.data(), {count, outputs}, {stride, 1}));
    args.x = args.x.Rows(begin, count);
    variant.run(args, exec);
    for (int64_t t = 0; t < count; ++t) {
      y.insert(y.end(), wide.begin() + t * stride, wide.begin() + t * stride + outputs);
      for (int64_t o = outputs; o < stride; ++o) EXPECT_EQ(wide[t * stride + o], kUntouched);
    }
    return y;
  }
};

void LinearAmxEmulated(const LinearArgs& args, Exec& exec) {
  LinearWith(kAmxEmulated, nullptr, args, exec);
}

std::vector<Variant<LinearArgs>> VariantsHere() {
  std::vector<Variant<LinearArgs>> out = {{"amx_emulated", kAnything, LinearAmxEmulated}};
  for (const auto& variant : LinearVariants())
    if (EverythingHere().Has(variant.needs)) out.push_back(variant);
  return out;
}

Variant<LinearArgs> Named(std::string_view name) {
  for (const auto& variant : LinearVariants())
    if (name == variant.name) return variant;
  return {};
}

const Variant<LinearArgs> kReference = {"reference", kAnything, LinearReference};

// Products of bfloat16s (and fp8 codes) are exact in fp32, so only the additions and scales round:
// n of them walk randomly, half an epsilon at most each.
double Tolerance(int64_t inputs) {
  return 0.5 * std::numeric_limits<float>::epsilon() * (1 + std::sqrt(inputs));
}

TEST(Linear, EveryVariantMatchesTheReferenceOnRaggedShapes) {
  TestExec test;
  SplitMix64 random(7);
  for (int round = 0; round < 120; ++round) {
    const int64_t rows = 1 + random.Below(round % 7 ? 20 : 130);
    const int64_t outputs = 1 + random.Below(200),
                  inputs = 1 + random.Below(round % 5 ? 300 : 1400);
    const WeightLayout layout = kLayouts[round % std::size(kLayouts)];
    Case c(round, rows, outputs, inputs, layout);
    const auto expected = c.Run(kReference, 0, rows, test.exec);
    for (const auto& variant : VariantsHere()) {
      const auto actual = c.Run(variant, 0, rows, test.exec);
      EXPECT_LE(RelativeError(actual, expected), Tolerance(inputs))
          << variant.name << " " << Name(layout) << " " << rows << "x" << outputs << "x" << inputs
          << " seed " << round;
    }
  }
}

TEST(Linear, SumsLongRowsInSlices) {
  TestExec test;
  for (const auto& [rows, inputs] :
       {std::pair{2, 19000}, {4, 11100}, {18, 2085}, {70, 2085}, {50, 5500}})
    for (const WeightLayout layout : {kBf16, kFp8Channel, kFp8Block, kInt8, kInt4Zeros}) {
      Case c(19, rows, 33, inputs, layout);
      const auto expected = c.Run(kReference, 0, rows, test.exec);
      for (const auto& variant : VariantsHere())
        EXPECT_LE(RelativeError(c.Run(variant, 0, rows, test.exec), expected), Tolerance(inputs))
            << variant.name << " " << Name(layout) << " " << rows << "x" << inputs;
    }
}

// As many sums as are ever held at a time.
TEST(Linear, HoldsTheSumsOfManyRowsAndPanels) {
  TestExec test;
  for (const auto& [rows, outputs, inputs] :
       {std::tuple{230, 700, 20}, {12, 1300, 20}, {70, 550, 300}})
    for (const WeightLayout layout : {kBf16, kFp8Channel}) {
      Case c(20, rows, outputs, inputs, layout);
      const auto expected = c.Run(kReference, 0, rows, test.exec);
      for (const auto& variant : VariantsHere())
        EXPECT_LE(RelativeError(c.Run(variant, 0, rows, test.exec), expected), Tolerance(inputs))
            << variant.name << " " << Name(layout) << " " << rows << "x" << outputs;
    }
}

// Every code, at an even and at an odd input, through the kernels of few and of many rows.
TEST(Linear, MultipliesWithTheExactValueOfEveryFp8Code) {
  TestExec test;
  for (const int64_t rows : {1, 5, 40})
    for (const int input : {0, 1})
      for (const WeightLayout layout : {kFp8Channel, kFp8Block}) {
        Case c(21, rows, 256, 2, layout);
        std::fill(c.x.begin(), c.x.end(), 1.0f);
        std::fill(c.bias.begin(), c.bias.end(), 0.0f);
        std::vector<uint8_t> codes(512);
        std::vector<float> scales(256, 0.1f);
        for (int code = 0; code < 256; ++code) codes[2 * code + input] = static_cast<uint8_t>(code);
        c.weight.PackCodes(0, View<const uint8_t, 2>(codes.data(), {256, 2}));
        c.weight.SetScales(0, 256, View<const float, 2>(scales.data(), {256, 1}), 1);
        for (const auto& variant : VariantsHere()) {
          const auto y = c.Run(variant, 0, rows, test.exec);
          for (int64_t i = 0; i < rows * 256; ++i) {
            const float expected = E4M3ToFloat(static_cast<uint8_t>(i % 256)) * 0.1f;
            EXPECT_TRUE(y[i] == expected || (std::isnan(y[i]) && std::isnan(expected)))
                << variant.name << " " << Name(layout) << " code " << i % 256 << ": " << y[i];
          }
        }
      }
}

float FlushDenormal(float x) {
  return std::fabs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x;
}

// vdpbf16ps: the second pair's product is added first; each addition is fused and rounded to
// nearest; operands and results that are denormal are zeros.
float DotBf16Pair(float sum, const float* x, const float* w) {
  for (const int i : {1, 0})
    sum = FlushDenormal(std::fma(FlushDenormal(x[i]), FlushDenormal(w[i]), FlushDenormal(sum)));
  return sum;
}

// Of `inputs` inputs: a chain over the pairs of the inputs of a scale, and one over the scales.
float DotBf16Sum(const float* x, const PackedMatrix& weight, int64_t output) {
  const int64_t inputs = weight.inputs();
  const int64_t step = weight.layout().scale_inputs ? weight.layout().scale_inputs : inputs;
  float total = 0;
  for (int64_t b = 0; b < inputs; b += step) {
    float sum = 0;
    for (int64_t i = b; i < std::min(b + step, inputs); i += 2) {
      const bool odd = i + 1 == inputs;
      const float pair[2] = {x[i], odd ? 0 : x[i + 1]};
      const float w[2] = {weight.Unscaled(output, i), odd ? 0 : weight.Unscaled(output, i + 1)};
      sum = DotBf16Pair(sum, pair, w);
    }
    total = weight.scale_blocks() ? std::fma(sum, weight.Scale(output, b), total) : sum;
  }
  return total;
}

TEST(Avx512Bf16, SumsInTheOrderOfTheInstruction) {
  if (!EverythingHere().Has(kDotProducts)) return;  // as elsewhere: kernels that run here
  TestExec test;
  for (const WeightLayout layout : kLayouts)
    for (const auto& [rows, inputs] : {std::pair{1, 700}, {3, 511}, {9, 301}, {50, 640}}) {
      Case c(23, rows, 70, inputs, layout);
      std::fill(c.bias.begin(), c.bias.end(), 0.0f);
      std::vector<float> expected;
      for (int64_t t = 0; t < rows; ++t)
        for (int64_t o = 0; o < 70; ++o)
          expected.push_back(DotBf16Sum(&c.x[t * inputs], c.weight, o));
      EXPECT_EQ(c.Run(Named("avx512_bf16"), 0, rows, test.exec), expected)
          << Name(layout) << " rows " << rows << " inputs " << inputs;
    }
}

// Sums of every size, some of which are lost beside others, and denormals on every side.
TEST(Avx512Bf16, RoundsAndFlushesAsTheModelDoes) {
  if (!EverythingHere().Has(kDotProducts)) return;  // as elsewhere: kernels that run here
  TestExec test;
  constexpr int64_t kRows = 40, kOutputs = 96, kInputs = 6;
  for (const auto& exponents : {std::pair{119, 16}, {54, 20}, {0, 255}}) {
    const int lowest = exponents.first, range = exponents.second;  // clang captures no binding
    Case c(29, kRows, kOutputs, kInputs);
    SplitMix64 random(static_cast<uint64_t>(lowest));
    const auto value = [&] {
      const auto exponent = static_cast<uint32_t>(lowest + random.Below(range));
      return std::bit_cast<float>((exponent << 23) |
                                  (static_cast<uint32_t>(random.Next()) & 0x807F0000u));
    };
    std::vector<float> w(kOutputs * kInputs);
    std::generate(w.begin(), w.end(), value);
    std::generate(c.x.begin(), c.x.end(), value);
    std::fill(c.bias.begin(), c.bias.end(), 0.0f);
    c.weight.Pack(0, View<const float, 2>(w.data(), {kOutputs, kInputs}));
    const auto y = c.Run(Named("avx512_bf16"), 0, kRows, test.exec);
    for (int64_t i = 0; i < kRows * kOutputs; ++i) {
      const float expected =
          DotBf16Sum(&c.x[i / kOutputs * kInputs], c.weight, i % kOutputs) + 0.0f;
      EXPECT_TRUE(y[i] == expected || (std::isnan(y[i]) && std::isnan(expected)))
          << y[i] << " instead of " << expected << ", exponents from " << lowest;
    }
  }
}

// As with fp8's codes, at every place of a step of inputs.
TEST(Linear, MultipliesWithTheExactValueOfEveryIntegerCode) {
  TestExec test;
  for (const int64_t rows : {1, 5, 40})
    for (int64_t input = 0; input < 8; ++input)
      for (const WeightLayout layout : {kInt8, kInt4, kInt4Zeros}) {
        Case c(22, rows, 256, 8, layout);
        std::fill(c.x.begin(), c.x.end(), 1.0f);
        std::fill(c.bias.begin(), c.bias.end(), 0.0f);
        std::vector<uint8_t> codes(256 * 8), zeros(256, 8);
        const std::vector<float> scales(256, 0.125f);
        if (layout.zero_points)
          for (int64_t o = 0; o < 256; ++o) zeros[o] = static_cast<uint8_t>(o / 16);
        for (int64_t o = 0; o < 256; ++o)
          for (int64_t i = 0; i < 8; ++i)
            codes[o * 8 + i] = static_cast<uint8_t>(i == input        ? o
                                                    : layout == kInt8 ? 0
                                                                      : zeros[o]);
        if (layout != kInt8)
          for (uint8_t& code : codes) code &= 15;
        c.weight.PackCodes(0, View<const uint8_t, 2>(codes.data(), {256, 8}));
        c.weight.SetScales(0, 256, View<const float, 2>(scales.data(), {256, 1}), 1);
        if (layout.zero_points)
          c.weight.SetZeroPoints(0, View<const uint8_t, 2>(zeros.data(), {256, 1}));
        for (const auto& variant : VariantsHere()) {
          const auto y = c.Run(variant, 0, rows, test.exec);
          for (int64_t i = 0; i < rows * 256; ++i) {
            const int64_t o = i % 256;
            const int value =
                layout == kInt8 ? static_cast<int8_t>(o) : static_cast<int>(o % 16) - zeros[o];
            EXPECT_EQ(y[i], static_cast<float>(value) * 0.125f)
                << variant.name << " " << Name(layout) << " code " << o << " at " << input;
          }
        }
      }
}

// A sum is one chain of FMAs over the inputs of a scale, the blocks' sums one chain over the
// blocks.
TEST(Linear, SumsInTheSameOrderOnEveryFmaKernel) {
  TestExec test;
  for (const WeightLayout layout : kLayouts)
    for (const auto& [rows, inputs] : {std::pair{1, 700}, {3, 511}, {9, 300}, {50, 640}}) {
      Case c(23, rows, 70, inputs, layout);
      std::fill(c.bias.begin(), c.bias.end(), 0.0f);
      std::vector<float> expected;
      for (int64_t t = 0; t < rows; ++t)
        for (int64_t o = 0; o < 70; ++o) {
          float total = 0;
          const int64_t step = layout.scale_inputs ? layout.scale_inputs : inputs;
          for (int64_t b = 0; b < inputs; b += step) {
            float sum = 0;
            for (int64_t i = b; i < std::min<int64_t>(b + step, inputs); ++i)
              sum = std::fma(c.x[t * inputs + i], c.weight.Unscaled(o, i), sum);
            total = std::fma(sum, c.weight.Scale(o, b), total);
          }
          expected.push_back(total);
        }
      for (const auto& variant : VariantsHere()) {
        const std::string_view name = variant.name;
        if (!name.starts_with("avx") || name == "avx512_bf16") continue;
        EXPECT_EQ(c.Run(variant, 0, rows, test.exec), expected)
            << variant.name << " " << Name(layout) << " rows " << rows;
      }
    }
}

TEST(Linear, UsesBfloat16ProductsOnlyWhereTheInputsAreBfloat16) {
  EXPECT_EQ(SelectPanelKernel(Machine{kAvx2}, true).name, std::string_view("avx2"));
  EXPECT_EQ(SelectPanelKernel(Machine{kAvx2 | kAvx512}, true).name, std::string_view("avx512"));
  EXPECT_EQ(SelectPanelKernel(Machine{kAvx2 | kAvx512 | kAvx512Vbmi}, true).name,
            std::string_view("avx512_vbmi"));
  const Machine dots{kDotProducts};
  EXPECT_EQ(SelectPanelKernel(dots, true).name, std::string_view("avx512_bf16"));
  EXPECT_EQ(SelectPanelKernel(dots, false).name, std::string_view("avx512_vbmi"));
  const Machine slow_dots{kDotProducts & ~uint32_t{kFastBf16Dot}};
  EXPECT_EQ(SelectPanelKernel(slow_dots, true).name, std::string_view("avx512_vbmi"));
  const Machine amx{kAvx2 | kAvx512 | kAmxBf16};
  EXPECT_EQ(SelectPanelKernel(amx, true).name, std::string_view("amx"));
  EXPECT_EQ(SelectPanelKernel(amx, false).name, std::string_view("avx512"));
}

// TDPBF16PS adds the products of even and of odd inputs apart, 16 pairs at a time.
TEST(AmxEmulated, SumsInTheOrderOfTheInstruction) {
  TestExec test;
  Case c(0, 1, 1, 32);
  std::fill(c.x.begin(), c.x.end(), 1.0f);
  std::vector<float> w(32, 1.0f);
  w[0] = 0x1p24f;  // 1 is lost beside it, 16 is not
  c.weight.Pack(0, View<const float, 2>(w.data(), {1, 32}));
  c.bias[0] = 0;
  EXPECT_EQ(c.Run({"", kAnything, LinearAmxEmulated}, 0, 1, test.exec)[0], 0x1p24f + 16);
  EXPECT_EQ(c.Run({"", kAnything, LinearReference}, 0, 1, test.exec)[0], 0x1p24f + 32);
}

TEST(AmxEmulated, TakesDenormalsForZero) {
  TestExec test;
  Case c(0, 1, 2, 1);
  c.bias = {0, 0};
  c.x = {0x1p100f};
  const float w[] = {0x1p-127f, 0x1p-126f};
  c.weight.Pack(0, View<const float, 2>(w, {2, 1}));
  EXPECT_EQ(c.Run({"", kAnything, LinearAmxEmulated}, 0, 1, test.exec),
            (std::vector<float>{0, 0x1p-26f}));
}

TEST(Linear, RoundsToTheBfloat16OfTheSum) {
  TestExec test;
  Case c(3, 5, 70, 100);
  for (const auto& variant : VariantsHere()) {
    c.rounding = Rounding::kNone;
    auto expected = c.Run(variant, 0, 5, test.exec);
    for (float& y : expected) y = RoundToBf16(y);
    c.rounding = Rounding::kBf16;
    EXPECT_EQ(c.Run(variant, 0, 5, test.exec), expected) << variant.name;
  }
}

TEST(Linear, ARowsBitsDoNotDependOnOtherRows) {
  TestExec test;
  for (const auto& [inputs, layout] : {std::pair{97, kBf16},
                                       {640, kBf16},
                                       {1100, kBf16},
                                       {1100, kFp8Channel},
                                       {643, kFp8Block},
                                       {1100, kInt8},
                                       {643, kInt4Small},
                                       {1100, kInt4Zeros}}) {
    Case c(5, 70, 165, inputs, layout);
    for (const auto& variant : VariantsHere()) {
      if (std::string_view(variant.name) == "reference") continue;
      std::vector<float> single;
      for (int64_t t = 0; t < c.rows; ++t) {
        const auto y = c.Run(variant, t, 1, test.exec);
        single.insert(single.end(), y.begin(), y.end());
      }
      for (int64_t count = 1; count <= c.rows; ++count) {
        const auto y = c.Run(variant, 0, count, test.exec);
        EXPECT_EQ(std::memcmp(y.data(), single.data(), y.size() * sizeof(float)), 0)
            << variant.name << " " << Name(layout) << " rows " << count << " inputs " << inputs;
      }
    }
  }
}

// Whole rows, all slices packed, or a slice at a time: the number of rows and inputs decides.
TEST(Linear, ARowsBitsAreTheSameInEveryKindOfBlock) {
  TestExec test;
  for (const int64_t inputs : {5500, 19000})
    for (const WeightLayout layout : {kBf16, kFp8Channel, kFp8Block, kInt4Zeros}) {
      Case c(6, 60, 70, inputs, layout);
      for (const auto& variant : VariantsHere()) {
        if (std::string_view(variant.name) == "reference") continue;
        const auto all = c.Run(variant, 0, c.rows, test.exec);
        for (const auto& [begin, count] : {std::pair{0, 1}, {59, 1}, {7, 6}, {44, 14}, {20, 30}}) {
          const auto y = c.Run(variant, begin, count, test.exec);
          EXPECT_EQ(std::memcmp(y.data(), &all[begin * c.outputs], y.size() * sizeof(float)), 0)
              << variant.name << " " << Name(layout) << " rows " << count << " inputs " << inputs;
        }
      }
    }
}

// Without a bias sums of few rows go straight to their place.
TEST(Linear, StoresTheSameWithAndWithoutBias) {
  TestExec test;
  for (const WeightLayout layout : kLayouts)
    for (const int64_t outputs : {32, 64, 161, 288})
      for (const Rounding rounding : {Rounding::kNone, Rounding::kBf16}) {
        Case c(8, 16, outputs, 300, layout);
        c.rounding = rounding;
        std::fill(c.bias.begin(), c.bias.end(), 0.0f);
        for (const auto& variant : VariantsHere())
          for (const int64_t rows : {1, 3, 8, 16}) {
            c.with_bias = true;
            const auto expected = c.Run(variant, 0, rows, test.exec);
            c.with_bias = false;
            EXPECT_EQ(c.Run(variant, 0, rows, test.exec), expected)
                << variant.name << " " << Name(layout) << " " << rows << " x " << outputs;
          }
      }
}

TEST(Linear, BitsDoNotDependOnTheNumberOfLanes) {
  TestExec one(1), two(2), three(3);
  for (const auto& [rows, outputs] : {std::pair{1, 300}, {9, 40}, {200, 33}, {70, 500}})
    for (const WeightLayout layout : {kBf16, kFp8Block, kInt8, kInt4Zeros}) {
      Case c(11, rows, outputs, 130, layout);
      for (const auto& variant : VariantsHere()) {
        const auto expected = c.Run(variant, 0, rows, one.exec);
        EXPECT_EQ(c.Run(variant, 0, rows, two.exec), expected) << variant.name;
        EXPECT_EQ(c.Run(variant, 0, rows, three.exec), expected) << variant.name;
      }
    }
}

TEST(Linear, BitsDoNotDependOnBlockSizes) {
  TestExec test;
  SplitMix64 random(7);
  for (const WeightLayout layout : {kBf16, kFp8Channel, kFp8Block})
    for (const auto& variant : VariantsHere()) {
      const Case c(random.Next(), 61, 150, 777, layout);
      const auto expected = c.Run(variant, 0, c.rows, test.exec);
      for (int i = 0; i < 6; ++i) {
        const BlockSizes sizes{.rows = static_cast<int32_t>(1 + random.Below(70)),
                               .inputs = static_cast<int32_t>(random.Below(3) * 600),
                               .panels = static_cast<int32_t>(random.Below(5)),
                               .direct_blocks = static_cast<int32_t>(random.Below(6)) - 1,
                               .prefetch = random.Below(2) == 0};
        const ForcedBlockSizes forced(sizes);
        EXPECT_EQ(std::memcmp(c.Run(variant, 0, c.rows, test.exec).data(), expected.data(),
                              expected.size() * sizeof(float)),
                  0)
            << variant.name << " " << Name(layout) << " rows " << sizes.rows << " inputs "
            << sizes.inputs << " panels " << sizes.panels << " direct " << sizes.direct_blocks;
      }
    }
}

TEST(BlockSizes, AreTheFirstLinesThatHold) {
  constexpr BlockSizesEntry kTable[] = {
      {"a", WeightFormat::kBf16, ActivationQuant::kNone, 2, 16, 64, 0, 1024, {.rows = 1}},
      {"a", WeightFormat::kBf16, ActivationQuant::kNone, 1, 16, 128, 0, 4096, {.rows = 2}},
      {"b", WeightFormat::kFp8E4M3, ActivationQuant::kNone, 1, 16, 128, 0, 4096, {.rows = 3}},
      {"b", WeightFormat::kInt8, ActivationQuant::kNone, 1, 16, 128, 0, 4096, {.rows = 4}},
      {"b", WeightFormat::kInt8, ActivationQuant::kInt8, 1, 16, 128, 0, 4096, {.rows = 5}},
  };
  const auto rows = [&](const char* kernel, WeightFormat format, int lanes, int64_t count,
                        int64_t inputs, ActivationQuant activations = ActivationQuant::kNone) {
    const BlockSizes* sizes =
        FindBlockSizes(kTable, kernel, format, activations, lanes, count, inputs);
    return sizes ? sizes->rows : 0;
  };
  EXPECT_EQ(rows("a", WeightFormat::kBf16, 4, 16, 1023), 1);
  EXPECT_EQ(rows("a", WeightFormat::kBf16, 1, 16, 1023), 2);
  EXPECT_EQ(rows("a", WeightFormat::kBf16, 4, 64, 1023), 2);
  EXPECT_EQ(rows("a", WeightFormat::kBf16, 4, 128, 1023), 0);
  EXPECT_EQ(rows("a", WeightFormat::kFp8E4M3, 4, 16, 1023), 0);
  EXPECT_EQ(rows("b", WeightFormat::kFp8E4M3, 4, 16, 4095), 3);
  EXPECT_EQ(rows("b", WeightFormat::kFp8E4M3, 4, 16, 4096), 0);
  EXPECT_EQ(rows("b", WeightFormat::kInt8, 4, 16, 64), 4);
  EXPECT_EQ(rows("b", WeightFormat::kInt8, 4, 16, 64, ActivationQuant::kInt8), 5);
}

TEST(BlockSizes, OfTheTableAreThoseOfKernelsThatExist) {
  for (const BlockSizesEntry& entry : MeasuredBlockSizes()) {
    const auto named = [&](const auto& kernel) { return kernel.name == entry.kernel; };
    EXPECT_TRUE(entry.activations == ActivationQuant::kNone
                    ? std::ranges::any_of(PanelKernels(), named)
                    : std::ranges::any_of(IntegerKernels(), named))
        << entry.kernel;
    EXPECT_LT(entry.rows_min, entry.rows_max);
    EXPECT_LT(entry.inputs_min, entry.inputs_max);
    EXPECT_NE(entry.sizes, BlockSizes());
  }
}

TEST(Linear, KeepsNotANumberInItsRowAndNothingBeyondTheInputs) {
  TestExec test;
  Case c(13, 9, 50, 33);
  const auto clean = [&](const Variant<LinearArgs>& v) { return c.Run(v, 0, 9, test.exec); };
  for (const auto& variant : VariantsHere()) {
    const auto expected = clean(variant);
    const float saved = c.x[4 * 33 + 7];
    c.x[4 * 33 + 7] = std::numeric_limits<float>::quiet_NaN();
    const auto actual = clean(variant);
    c.x[4 * 33 + 7] = saved;
    for (int64_t i = 0; i < 9 * 50; ++i) {
      if (i / 50 == 4)
        EXPECT_TRUE(std::isnan(actual[i])) << variant.name;
      else
        EXPECT_EQ(actual[i], expected[i]) << variant.name;
    }
  }
}

// What `sluice bench linear --trace` shows.
TEST(Linear, RecordsItsStages) {
  TestExec test(2);
  for (const WeightLayout layout : kLayouts) {
    const Case c(18, 70, 320, 300, layout);
    for (const auto& variant : VariantsHere()) {
      if (std::string_view(variant.name) == "reference") continue;
      trace::Reset();
      trace::Enable(trace::Level::kStages);
      c.Run(variant, 0, c.rows, test.exec);
      trace::Disable();
      const std::vector<trace::Event> events = trace::Events();
      const auto has = [&](std::string_view stage) {
        return std::ranges::any_of(events, [=](const auto& event) { return event.name == stage; });
      };
      EXPECT_TRUE(has("product") && has("gather") && has("waiting"))
          << variant.name << " " << Name(layout);
      EXPECT_EQ(has("unpack"), layout.format != WeightFormat::kBf16)
          << variant.name << " " << Name(layout);
    }
  }
  trace::Reset();
}

TEST(Linear, HasNothingToDoForNoRows) {
  TestExec test;
  Case c(17, 1, 10, 10);
  for (const auto& variant : VariantsHere()) EXPECT_TRUE(c.Run(variant, 0, 0, test.exec).empty());
}

}  // namespace
}  // namespace sluice
