// Products of quantised rows with integer weights: every kernel against the definition, to the bit.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "formats/int4/quantize.h"
#include "formats/int8/quantize.h"
#include "kernels/linear/integer/panel_tiles_amx_emulated.h"
#include "kernels/linear/linear_variants.h"
#include "kernels/testing.h"

namespace sluice {
namespace {

constexpr WeightLayout kInt8{WeightFormat::kInt8, 0}, kInt4{WeightFormat::kInt4, 128},
    kInt4Fine{WeightFormat::kInt4, 32}, kInt4Zeros{WeightFormat::kInt4, 64, true};
constexpr WeightLayout kLayouts[] = {kInt8, kInt4, kInt4Fine, kInt4Zeros};

std::string Name(WeightLayout layout) {
  if (layout == kInt8) return "int8";
  return "int4/" + std::to_string(layout.scale_inputs) + (layout.zero_points ? "z" : "");
}

std::vector<IntegerKernel> KernelsHere() {
  std::vector<IntegerKernel> out = {kAmxInt8Emulated};
  for (const IntegerKernel& kernel : IntegerKernels())
    if (ThisMachine().Has(kernel.needs)) out.push_back(kernel);
  return out;
}

struct Case {
  int64_t rows, outputs, inputs;
  std::vector<float> x;
  PackedMatrix weight;

  // Every code that the format has, also those that no quantiser makes.
  Case(uint64_t seed, int64_t rows, int64_t outputs, int64_t inputs, WeightLayout layout)
      : rows(rows), outputs(outputs), inputs(inputs) {
    SplitMix64 random(seed);
    x = RandomFloats(random, rows * inputs);
    weight = std::move(*PackedMatrix::Allocate(layout, outputs, inputs));
    std::vector<uint8_t> codes(outputs * inputs);
    for (uint8_t& code : codes)
      code = random.Below(layout.format == WeightFormat::kInt8 ? 256 : 16);
    weight.PackCodes(0, {codes.data(), {outputs, inputs}});
    const int64_t blocks = weight.scale_blocks();
    const auto scales = RandomFloats(random, outputs * blocks, 0.1f, true);
    weight.SetScales(0, outputs, {scales.data(), {outputs, blocks}}, 1);
    if (!layout.zero_points) return;
    std::vector<uint8_t> zeros(outputs * blocks);
    for (uint8_t& zero : zeros) zero = random.Below(16);
    weight.SetZeroPoints(0, {zeros.data(), {outputs, blocks}});
  }

  LinearArgs Args(View<float, 2> y) const {
    return {.x = {x.data(), {rows, inputs}},
            .weight = &weight,
            .rounding = Rounding::kNone,
            .bf16_inputs = false,
            .activations = ActivationQuant::kInt8,
            .y = y};
  }

  // Of `count` rows from `begin` on; y rows are wider than the outputs, and must stay so untouched.
  std::vector<float> Run(const IntegerKernel& kernel, int64_t begin, int64_t count,
                         Exec& exec) const {
    constexpr float kUntouched = 12345;
    const int64_t stride = outputs + 3;
    std::vector<float> wide(count * stride, kUntouched), y;
    LinearArgs args = Args(View<float, 2>(wide.data(), {count, outputs}, {stride, 1}));
    args.x = args.x.Rows(begin, count);
    LinearWith(PanelKernels().back(), &kernel, args, exec);
    for (int64_t t = 0; t < count; ++t) {
      y.insert(y.end(), wide.begin() + t * stride, wide.begin() + t * stride + outputs);
      for (int64_t o = outputs; o < stride; ++o) EXPECT_EQ(wide[t * stride + o], kUntouched);
    }
    return y;
  }

  std::vector<float> Reference(Exec& exec) const {
    std::vector<float> y(rows * outputs);
    LinearReference(Args({y.data(), {rows, outputs}}), exec);
    return y;
  }

  // The contract of IntegerKernel, in plain loops.
  std::vector<float> Definition() const {
    const int64_t scale_inputs = weight.layout().scale_inputs;
    const int64_t group = scale_inputs ? scale_inputs : inputs;
    std::vector<QuantizedRow> quantized;
    for (int64_t t = 0; t < rows; ++t)
      quantized.push_back(QuantizeRow(x.data() + t * inputs, inputs));
    std::vector<float> y(rows * outputs);
    std::vector<int32_t> w(inputs);
    for (int64_t o = 0; o < outputs; ++o) {
      for (int64_t i = 0; i < inputs; ++i) w[i] = static_cast<int32_t>(weight.Unscaled(o, i));
      for (int64_t t = 0; t < rows; ++t) {
        float total = 0;
        for (int64_t b = 0; b < inputs; b += group) {
          int64_t sum = 0;
          for (int64_t i = b; i < std::min(b + group, inputs); ++i)
            sum += quantized[t].codes[i] * w[i];
          EXPECT_LE(std::llabs(sum), int64_t{1} << 31);
          total = std::fma(static_cast<float>(sum), weight.Scale(o, b), total);
        }
        y[t * outputs + o] = quantized[t].scale * total;
      }
    }
    return y;
  }
};

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(IntegerProduct, HasTheBitsOfItsDefinitionOnEveryKernel) {
  TestExec test;
  SplitMix64 random(29);
  for (int round = 0; round < 60; ++round) {
    const int64_t rows = 1 + random.Below(round % 7 ? 30 : 130);
    const int64_t outputs = 1 + random.Below(200),
                  inputs = 1 + random.Below(round % 5 ? 300 : 1400);
    const WeightLayout layout = kLayouts[round % 4];
    const Case c(round, rows, outputs, inputs, layout);
    const auto expected = c.Definition();
    for (const IntegerKernel& kernel : KernelsHere())
      EXPECT_TRUE(SameBits(c.Run(kernel, 0, rows, test.exec), expected))
          << kernel.name << " " << Name(layout) << " " << rows << "x" << outputs << "x" << inputs
          << " seed " << round;
    EXPECT_LE(RelativeError(expected, c.Reference(test.exec)), 2e-6) << "seed " << round;
  }
}

// More rows than are packed at a time, rows so long that only few are, and slices of them.
TEST(IntegerProduct, TakesManyAndLongRowsInBlocks) {
  TestExec test;
  for (const auto& [rows, inputs] : {std::pair{530, 64}, {61, 17000}, {3, 30000}, {17, 1089}})
    for (const WeightLayout layout : kLayouts) {
      const Case c(31, rows, 35, inputs, layout);
      const auto expected = c.Definition();
      for (const IntegerKernel& kernel : KernelsHere())
        EXPECT_TRUE(SameBits(c.Run(kernel, 0, rows, test.exec), expected))
            << kernel.name << " " << Name(layout) << " " << rows << "x" << inputs;
    }
}

TEST(IntegerProduct, ARowsBitsDependNeitherOnOtherRowsNorOnLanes) {
  TestExec one(1), two(2), three(3);
  for (const WeightLayout layout : kLayouts) {
    const Case c(5, 40, 165, 643, layout);
    for (const IntegerKernel& kernel : KernelsHere()) {
      std::vector<float> single;
      for (int64_t t = 0; t < c.rows; ++t) {
        const auto y = c.Run(kernel, t, 1, one.exec);
        single.insert(single.end(), y.begin(), y.end());
      }
      for (int64_t count = 1; count <= c.rows; ++count) {
        const auto y = c.Run(kernel, 0, count, count % 3 ? two.exec : three.exec);
        EXPECT_EQ(std::memcmp(y.data(), single.data(), y.size() * sizeof(float)), 0)
            << kernel.name << " " << Name(layout) << " rows " << count;
      }
    }
  }
}

TEST(IntegerProduct, ARowsBitsDoNotDependOnBlockSizes) {
  TestExec test(2);
  SplitMix64 random(41);
  for (const WeightLayout layout : kLayouts)
    for (const auto& [rows, inputs] : {std::pair{3, 640}, {13, 1800}, {27, 2600}, {61, 1300}}) {
      const Case c(random.Next(), rows, 70, inputs, layout);
      const auto expected = c.Definition();
      for (const IntegerKernel& kernel : KernelsHere())
        for (int i = 0; i < 6; ++i) {
          const BlockSizes sizes{.rows = static_cast<int32_t>(random.Below(2) * random.Below(70)),
                                 .inputs = static_cast<int32_t>(random.Below(3000)),
                                 .panels = static_cast<int32_t>(random.Below(5)),
                                 .direct_blocks = static_cast<int32_t>(random.Below(6)) - 1,
                                 .block_rows = static_cast<int32_t>(random.Below(16)),
                                 .prefetch = random.Below(2) == 0};
          const ForcedBlockSizes forced(sizes);
          EXPECT_TRUE(SameBits(c.Run(kernel, 0, rows, test.exec), expected))
              << kernel.name << " " << Name(layout) << " " << rows << "x" << inputs << " rows "
              << sizes.rows << " inputs " << sizes.inputs << " panels " << sizes.panels
              << " direct " << sizes.direct_blocks << " block rows " << sizes.block_rows
              << " prefetch " << sizes.prefetch;
        }
    }
}

TEST(IntegerProduct, GoesOnFromTheSumsOfEarlierInputs) {
  TestExec test;
  for (const int64_t rows : {2, 3, 9, 17, 40})
    for (const WeightLayout layout : kLayouts) {
      const Case c(37, rows, 70, 900, layout);
      const auto expected = c.Definition();
      for (const IntegerKernel& kernel : KernelsHere()) {
        std::vector<float> y(rows * 70), partial(rows * 96, std::nanf(""));
        for (const auto& [begin, end] :
             {std::pair<int64_t, int64_t>{0, 256}, {256, 768}, {768, 900}})
          kernel.by_format[static_cast<int>(layout.format)]({.x = c.x.data(),
                                                             .x_stride = 900,
                                                             .rows = rows,
                                                             .weight = &c.weight,
                                                             .panel_begin = 0,
                                                             .panel_end = 3,
                                                             .input_begin = begin,
                                                             .input_end = end,
                                                             .partial = partial.data(),
                                                             .partial_stride = 96,
                                                             .y = y.data(),
                                                             .y_stride = 70});
        EXPECT_TRUE(SameBits(y, expected)) << kernel.name << " " << Name(layout) << " " << rows;
      }
    }
}

// A row alone is quantised where its values lie.
TEST(IntegerProduct, QuantisesARowToTheBitsOfTheDefinitionAlsoInPlace) {
  SplitMix64 random(41);
  for (const int64_t inputs : {1, 15, 16, 31, 32, 33, 64, 100, 1023, 4096})
    for (const float largest : {1.0f, 0.0f, 0x1p-120f, 1e20f, std::nanf("")}) {
      auto x = RandomFloats(random, inputs);
      for (float& value : x) value *= largest;
      const QuantizedRow expected = QuantizeRow(x.data(), inputs);
      const int64_t padded = (inputs + kPanelInputs - 1) / kPanelInputs * kPanelInputs;
      std::vector<int8_t> padded_codes = expected.codes;
      padded_codes.resize(padded);
      for (const IntegerKernel& kernel : KernelsHere()) {
        const auto where = testing::Message() << kernel.name << " " << inputs << " " << largest;
        std::vector<int8_t> codes(padded + 1, 99);
        const float scale = kernel.quantize(x.data(), inputs, codes.data());
        EXPECT_EQ(std::memcmp(codes.data(), padded_codes.data(), padded), 0) << where;
        EXPECT_EQ(codes.back(), 99) << where;
        EXPECT_TRUE(scale == expected.scale || (std::isnan(scale) && std::isnan(expected.scale)))
            << where;
        std::vector<float> place = x;
        place.resize((inputs + 15) / 16 * 16);
        auto* const within = reinterpret_cast<int8_t*>(place.data());
        kernel.quantize(place.data(), inputs, within);
        EXPECT_EQ(std::memcmp(within, padded_codes.data(), padded), 0) << where << " in place";
      }
    }
}

// Codes of other rows lie between those that a product gathers; of all its inputs, and of slices.
TEST(IntegerProduct, TakesRowsThatWereQuantisedBefore) {
  SplitMix64 random(43);
  for (int round = 0; round < 40; ++round) {
    const int64_t rows = 1 + random.Below(round % 4 ? 40 : 300);
    const int64_t outputs = 1 + random.Below(100);
    const int64_t inputs = 1 + random.Below(round % 5 ? 700 : 2500);
    const WeightLayout layout = kLayouts[random.Below(std::size(kLayouts))];
    Case c(round, rows, outputs, inputs, layout);
    if (round % 3 == 0) c.x[random.Below(c.x.size())] = std::nanf("");
    const auto expected = c.Definition();
    std::vector<int32_t> places(rows);  // row r's codes are row places[r] of the quantised ones
    for (int64_t r = 0; r < rows; ++r) places[r] = static_cast<int32_t>(2 * (rows - 1 - r));
    const int64_t stride = (inputs + 63) / 64 * 64 + 64, cut = inputs / 512 * 256;
    for (const IntegerKernel& kernel : KernelsHere()) {
      std::vector<int8_t> codes(2 * rows * stride, 77);
      std::vector<float> scales(2 * rows, 1e30f), y(rows * outputs), partial(rows * 128);
      for (int64_t r = 0; r < rows; ++r)
        scales[places[r]] =
            kernel.quantize(c.x.data() + r * inputs, inputs, codes.data() + places[r] * stride);
      PanelProduct product{.x_stride = 0,
                           .quantized = {codes.data(), stride, scales.data()},
                           .row_ids = places.data(),
                           .rows = rows,
                           .weight = &c.weight,
                           .panel_begin = 0,
                           .panel_end = c.weight.panels(),
                           .partial = partial.data(),
                           .partial_stride = 128,
                           .y = y.data(),
                           .y_stride = outputs};
      const auto run = kernel.by_format[static_cast<int>(layout.format)];
      const auto agrees = [&] {
        for (int64_t i = 0; i < rows * outputs; ++i)
          if (std::isnan(expected[i]) ? !std::isnan(y[i]) : y[i] != expected[i]) return false;
        return true;
      };
      const auto where = testing::Message() << kernel.name << " " << Name(layout) << " " << rows
                                            << "x" << outputs << "x" << inputs << " seed " << round;
      run(product);
      EXPECT_TRUE(agrees()) << where;
      if (cut == 0) continue;
      std::ranges::fill(y, 0.0f);
      product.input_end = cut;
      run(product);
      product.input_begin = cut;
      product.input_end = inputs;
      run(product);
      EXPECT_TRUE(agrees()) << where << " from " << cut;
    }
  }
}

TEST(IntegerProduct, SumsTheLargestCodesOfTheLongestRowsExactly) {
  TestExec test;
  for (const uint8_t code : {0x80, 0x81, 0x7F}) {
    Case c(0, 1, 1, kQuantizedInputsMax, kInt8);
    std::fill(c.x.begin(), c.x.end(), 127.0f);
    const std::vector<uint8_t> codes(kQuantizedInputsMax, code);
    const float scale = 1;
    c.weight.PackCodes(0, {codes.data(), {1, kQuantizedInputsMax}});
    c.weight.SetScales(0, 1, {&scale, {1, 1}}, 1);
    const double expected = 127.0 * static_cast<int8_t>(code) * kQuantizedInputsMax;
    for (const IntegerKernel& kernel : KernelsHere())
      EXPECT_EQ(c.Run(kernel, 0, 1, test.exec)[0], static_cast<float>(expected))
          << kernel.name << " code " << int{code};
  }
}

TEST(IntegerProduct, KeepsNotANumberInItsRow) {
  TestExec test;
  for (const WeightLayout layout : kLayouts)
    for (const int64_t rows : {2, 9, 40}) {
      Case c(13, rows, 50, 70, layout);
      const auto expected = c.Definition();
      for (const float odd :
           {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
            -std::numeric_limits<float>::infinity()}) {
        const float saved = std::exchange(c.x[1 * 70 + 66], odd);
        for (const IntegerKernel& kernel : KernelsHere()) {
          const auto y = c.Run(kernel, 0, rows, test.exec);
          for (int64_t i = 0; i < rows * 50; ++i)
            EXPECT_TRUE(i / 50 == 1 ? std::isnan(y[i]) : y[i] == expected[i])
                << kernel.name << " " << Name(layout) << " row " << i / 50 << ": " << y[i];
        }
        for (int64_t o = 0; o < 50; ++o) EXPECT_TRUE(std::isnan(c.Reference(test.exec)[50 + o]));
        c.x[1 * 70 + 66] = saved;
      }
    }
}

TEST(IntegerProduct, GivesZerosForRowsOfZerosAndOfNextToNothing) {
  TestExec test;
  for (const WeightLayout layout : kLayouts)
    for (const float tiny : {0.0f, -0.0f, std::numeric_limits<float>::denorm_min(), 0x1p-120f}) {
      Case c(17, 3, 40, 50, layout);
      std::fill(c.x.begin(), c.x.end(), tiny);
      for (const IntegerKernel& kernel : KernelsHere())
        for (const float y : c.Run(kernel, 0, 3, test.exec)) EXPECT_EQ(y, 0) << kernel.name;
    }
}

TEST(IntegerProduct, TakesRowsOfEveryMagnitude) {
  TestExec test;
  for (const float scale : {0x1p-119f, 1e-20f, 1e20f, 0x1p120f}) {
    Case c(19, 20, 40, 90, kInt8);
    for (float& x : c.x) x *= scale;
    const auto expected = c.Definition();
    for (const IntegerKernel& kernel : KernelsHere())
      EXPECT_TRUE(SameBits(c.Run(kernel, 0, 20, test.exec), expected)) << kernel.name << scale;
  }
}

// What the quantised rows cost where weights and rows look like a model's.
TEST(IntegerProduct, StaysNearTheProductOfRowsAsTheyAre) {
  TestExec test;
  SplitMix64 random(23);
  for (const WeightLayout layout : kLayouts) {
    Case c(23, 8, 96, 1024, layout);
    const auto w = RandomFloats(random, 96 * 1024, 0.05f, true);
    c.weight.Pack(0, View<const float, 2>(w.data(), {96, 1024}));
    std::vector<float> exact(8 * 96);
    LinearArgs args = c.Args({exact.data(), {8, 96}});
    args.activations = ActivationQuant::kNone;
    LinearReference(args, test.exec);
    const double error = RelativeError(c.Run(KernelsHere().back(), 0, 8, test.exec), exact);
    EXPECT_LE(error, 1.5e-2) << Name(layout);
    EXPECT_GT(error, 1e-3) << Name(layout) << ": were the rows quantised?";
  }
}

TEST(IntegerProduct, LeavesRowsAsTheyAreWhereTheWeightsAreNoIntegers) {
  TestExec test;
  SplitMix64 random(3);
  PackedMatrix weight = std::move(*PackedMatrix::Allocate(40, 100));
  const auto w = RandomFloats(random, 40 * 100), x = RandomFloats(random, 3 * 100);
  weight.Pack(0, View<const float, 2>(w.data(), {40, 100}));
  std::vector<float> quantized(120), plain(120);
  LinearArgs args{.x = {x.data(), {3, 100}},
                  .weight = &weight,
                  .rounding = Rounding::kNone,
                  .bf16_inputs = false,
                  .activations = ActivationQuant::kInt8,
                  .y = {quantized.data(), {3, 40}}};
  Linear(args, test.exec);
  args.activations = ActivationQuant::kNone;
  args.y = {plain.data(), {3, 40}};
  Linear(args, test.exec);
  EXPECT_TRUE(SameBits(quantized, plain));
  EXPECT_FALSE(QuantizesRows(ActivationQuant::kInt8, weight));
}

TEST(IntegerProduct, ChoosesTheKernelOfTheMachine) {
  const auto name = [](uint32_t features) -> std::string {
    return SelectIntegerKernel(Machine{features}, ActivationQuant::kInt8)->name;
  };
  EXPECT_EQ(name(kAvx2), "avx2");
  EXPECT_EQ(name(kAvx2 | kAvxVnni), "avx_vnni");
  EXPECT_EQ(name(kAvx2 | kAvx512), "avx2");
  EXPECT_EQ(name(kAvx2 | kAvx512 | kAvx512Vnni), "avx512_vnni");
  EXPECT_EQ(name(kAvx2 | kAvx512 | kAvx512Vnni | kAmxBf16 | kAmxInt8), "amx");
  EXPECT_EQ(SelectIntegerKernel(ThisMachine(), ActivationQuant::kNone), nullptr);
}

}  // namespace
}  // namespace sluice
