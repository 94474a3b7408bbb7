#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/machine.h"
#include "base/random.h"
#include "kernels/block/drive.h"
#include "tensor/dtype.h"

namespace sluice {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Named {
  const char* name;
  const BlockOps* ops;
};

std::vector<Named> OpsThatRunHere() {
  std::vector<Named> out = {{"avx2", &kBlockOpsAvx2}};
  if (ThisMachine().Has(kAvx512)) out.push_back({"avx512", &kBlockOpsAvx512});
  return out;
}

std::vector<float> Normals(int64_t count, uint64_t seed, bool bf16 = false) {
  SplitMix64 random(seed);
  std::vector<float> x(count);
  for (float& value : x) value = bf16 ? RoundToBf16(random.Normal()) : random.Normal();
  return x;
}

std::vector<Bf16> Narrow(const std::vector<float>& x) {
  std::vector<Bf16> narrow;
  for (float value : x) narrow.push_back(ToBf16(value));
  return narrow;
}

TEST(BlockOps, ProductIsTheFusedChainInOrderOfDepthForEveryShape) {
  for (const auto& [name, ops] : OpsThatRunHere())
    for (int64_t rows : {1, 2, 5, 6, 7, 13})
      for (int64_t columns : {1, 8, 15, 16, 24, 33, 64, 128, 131})
        for (bool bf16 : {false, true}) {
          const int64_t depth = 11, a_row = depth + 3, b_depth = columns + 5, c_row = columns + 2;
          const auto a = Normals(rows * a_row, 1), b = Normals(depth * b_depth, 2, true);
          const auto narrow = Narrow(b);
          const auto scale = Normals(rows, 3);
          for (const auto& [scaled, last] :
               {std::pair{false, false}, {true, false}, {true, true}}) {
            std::vector<float> c =
                scaled ? Normals(rows * c_row, 4) : std::vector<float>(rows * c_row, kNan);
            std::vector<float> expected = c;
            for (int64_t i = 0; i < rows; ++i)
              for (int64_t j = 0; j < columns; ++j) {
                const float before = c[i * c_row + j];
                float sum = scaled && !last ? scale[i] * before : 0.0f;
                for (int64_t d = 0; d < depth; ++d)
                  sum = std::fma(a[i * a_row + d], b[d * b_depth + j], sum);
                expected[i * c_row + j] = last ? std::fma(scale[i], before, sum) : sum;
              }
            ops->product({rows, columns, depth, a.data(), a_row, 1,
                          bf16 ? static_cast<const void*>(narrow.data()) : b.data(), bf16, b_depth,
                          c.data(), c_row, scaled ? scale.data() : nullptr, last});
            ASSERT_EQ(0, std::memcmp(c.data(), expected.data(), c.size() * 4))
                << name << " " << rows << " x " << columns;
          }
        }
}

TEST(BlockOps, APairProductHasTheBitsOfTheProductAndIgnoresTheHalfBeyondAnOddDepth) {
  for (const auto& [name, ops] : OpsThatRunHere())
    for (int64_t rows : {1, 4, 6, 13})
      for (int64_t columns : {1, 8, 24, 33, 64, 128, 131})
        for (int64_t depth : {1, 2, 7, 40})
          for (bool scaled : {false, true}) {
            const auto a = Normals(rows * depth, 1), b = Normals(depth * columns, 2, true);
            const auto scale = Normals(rows, 3);
            const int64_t b_depth = 2 * columns + 6;
            std::vector<Bf16> pairs((depth + 1) / 2 * b_depth, Bf16{0x7fff});  // NaN
            for (int64_t d = 0; d < depth; ++d)
              for (int64_t j = 0; j < columns; ++j)
                pairs[d / 2 * b_depth + 2 * j + d % 2] = ToBf16(b[d * columns + j]);
            std::vector<float> c = Normals(rows * columns, 4), expected = c;
            BlockProduct p = {rows,     columns,
                              depth,    a.data(),
                              depth,    1,
                              b.data(), false,
                              columns,  expected.data(),
                              columns,  scaled ? scale.data() : nullptr};
            ops->product(p);
            p.b = pairs.data();
            p.b_depth = b_depth;
            p.c = c.data();
            ops->pair_product(p);
            ASSERT_EQ(0, std::memcmp(c.data(), expected.data(), c.size() * 4))
                << name << " " << rows << " x " << columns << " depth " << depth;
          }
}

TEST(BlockOps, RowProductsHaveTheBitsOfTheProductsOneByOne) {
  for (const auto& [name, ops] : OpsThatRunHere())
    for (int64_t count : {1, 2, 3, 4, 7, 9})
      for (int64_t columns : {8, 16, 24, 32, 64, 128})
        for (int64_t depth : {1, 5, 32})
          for (bool bf16 : {false, true})
            for (bool scaled : {false, true}) {
              const int64_t a_next = depth + 2, b_depth = columns + 3, b_next = depth * b_depth + 1,
                            c_next = columns + 4;
              const auto a = Normals(count * a_next, 1), b = Normals(count * b_next, 2, true);
              const auto narrow = Narrow(b);
              const auto scale = Normals(count, 3);
              std::vector<float> c =
                  scaled ? Normals(count * c_next, 4) : std::vector<float>(count * c_next, kNan);
              std::vector<float> expected = c;
              for (int64_t i = 0; i < count; ++i)
                ops->product({1, columns, depth, a.data() + i * a_next, a_next, 1,
                              bf16 ? static_cast<const void*>(narrow.data() + i * b_next)
                                   : b.data() + i * b_next,
                              bf16, b_depth, expected.data() + i * c_next, c_next,
                              scaled ? scale.data() + i : nullptr});
              ops->row_products({count, columns, depth, a.data(), a_next,
                                 bf16 ? static_cast<const void*>(narrow.data()) : b.data(), bf16,
                                 b_depth, b_next, c.data(), c_next,
                                 scaled ? scale.data() : nullptr});
              ASSERT_EQ(0, std::memcmp(c.data(), expected.data(), c.size() * 4))
                  << name << " " << count << " of " << columns << ", depth " << depth;
            }
}

TEST(BlockOps, CausalProductReadsNothingBeyondTheDiagonal) {
  for (const auto& [name, ops] : OpsThatRunHere())
    for (int64_t rows : {1, 6, 9, 64}) {
      const int64_t columns = 40, first = 3, depth = first + rows - 1;
      const auto a = Normals(rows * depth, 1), b = Normals(depth * columns, 2);
      std::vector<float> c(rows * columns), expected(c);
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t d = 0; d < first + i; ++d)
          for (int64_t j = 0; j < columns; ++j) {
            float& sum = expected[i * columns + j];
            sum = std::fma(a[i * depth + d], b[d * columns + j], sum);
          }
      std::vector<float> masked = a;
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t d = first + i; d < depth; ++d) masked[i * depth + d] = kNan;
      CausalProduct(*ops, {rows, columns, first, masked.data(), depth, 1, b.data(), false, columns,
                           c.data(), columns, nullptr});
      ASSERT_EQ(0, std::memcmp(c.data(), expected.data(), c.size() * 4)) << name << " " << rows;
    }
}

/// c [rows][columns] against sums of doubles, and to the bit against single(i, j), that dot alone.
template <class F>
void ExpectDots(const std::vector<float>& c, const std::vector<float>& a,
                const std::vector<float>& b, int64_t rows, int64_t columns, int64_t depth,
                F&& single) {
  EXPECT_TRUE(std::isnan(c[rows * columns])) << "writes beyond " << columns << " columns";
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      double sum = 0, size = 0;
      for (int64_t d = 0; d < depth; ++d) {
        sum += double{a[i * depth + d]} * b[j * depth + d];
        size += std::abs(double{a[i * depth + d]} * b[j * depth + d]);
      }
      ASSERT_NEAR(c[i * columns + j], sum, size * 1e-6);
      ASSERT_EQ(single(i, j), c[i * columns + j]) << "depth " << depth;
    }
}

TEST(BlockOps, ADotHasTheSameBitsWhereverItStands) {
  for (const auto& [name, ops] : OpsThatRunHere())
    for (int64_t depth : {1, 7, 16, 24, 48, 128, 576})
      for (auto [rows, columns] : {std::pair<int64_t, int64_t>{7, 11}, {1, 39}, {1, 16}, {1, 3}})
        for (bool bf16 : {false, true}) {
          const auto a = Normals(rows * depth, 1), b = Normals(columns * depth, 2, true);
          const auto narrow = Narrow(b);
          const void* data = bf16 ? static_cast<const void*>(narrow.data()) : b.data();
          std::vector<float> c(rows * columns + 1, kNan);
          ops->dots({rows, columns, depth, a.data(), depth, data, bf16, depth, c.data(), columns});
          SCOPED_TRACE(name);
          ExpectDots(c, a, b, rows, columns, depth, [&](int64_t i, int64_t j) {
            float single = kNan;
            const void* row = static_cast<const std::byte*>(data) + j * depth * (bf16 ? 2 : 4);
            ops->dots({1, 1, depth, &a[i * depth], depth, row, bf16, depth, &single, 1});
            return single;
          });
        }
}

TEST(BlockOps, ANarrowProductIsTheSumAndHasTheSameBitsWhereverItStands) {
  if (!ThisMachine().Has(kAvx512Bf16)) return;  // as elsewhere: kernels that run here
  for (int64_t rows : {1, 2, 5, 6, 7, 24})
    for (int64_t columns : {1, 16, 17, 40, 64, 130})
      for (int64_t depth : {2, 8, 64, 128}) {
        const int64_t padded = (columns + 15) / 16 * 16, a_row = depth + 6, b_depth = 2 * padded;
        const auto a = Normals(rows * a_row, 1, true), b = Normals(depth * columns, 2, true);
        const auto narrow_a = Narrow(a);
        std::vector<Bf16> pairs(depth / 2 * b_depth, Bf16{0x7fff});  // NaN beyond the columns
        for (int64_t d = 0; d < depth; ++d)
          for (int64_t j = 0; j < columns; ++j)
            pairs[d / 2 * b_depth + 2 * j + d % 2] = ToBf16(b[d * columns + j]);
        std::vector<float> c(rows * padded, kNan);
        NarrowProductAvx512Bf16({rows, columns, depth, narrow_a.data(), a_row, pairs.data(),
                                 b_depth, c.data(), padded, pairs.data()});
        SCOPED_TRACE(testing::Message() << rows << " x " << columns << ", depth " << depth);
        for (int64_t i = 0; i < rows; ++i) {
          for (int64_t j = 0; j < columns; ++j) {
            double sum = 0, magnitude = 0;
            for (int64_t d = 0; d < depth; ++d) {
              const double product = double(a[i * a_row + d]) * double(b[d * columns + j]);
              sum += product;
              magnitude += std::fabs(product);
            }
            // Each addition rounds once: depth halves of 2^-23.
            ASSERT_NEAR(c[i * padded + j], sum, double(depth) * 0x1p-24 * magnitude);
          }
          std::vector<float> alone(padded, kNan);
          NarrowProductAvx512Bf16({1, columns, depth, narrow_a.data() + i * a_row, a_row,
                                   pairs.data(), b_depth, alone.data(), padded});
          ASSERT_EQ(0, std::memcmp(alone.data(), &c[i * padded], columns * 4)) << "row " << i;
        }
      }
}

TEST(BlockOps, ANarrowDotHasTheSameBitsWhereverItStands) {
  if (!ThisMachine().Has(kAvx512Bf16)) return;  // as elsewhere: kernels that run here
  for (int64_t depth : {1, 7, 8, 31, 32, 33, 96, 576})
    for (auto [rows, columns] : {std::pair<int64_t, int64_t>{7, 11}, {4, 64}, {1, 39}, {2, 3}}) {
      const auto a = Normals(rows * depth, 1, true);
      auto b = Normals(columns * depth, 2, true);
      b.resize((columns + 15) / 16 * 16 * depth, kNan);
      const auto narrow = Narrow(b);
      const auto run = [&](const float* from, int64_t count, int64_t column, int64_t column_count,
                           float* c) {
        alignas(64) static Bf16 packed[8 * 576];
        PackNarrowRowsAvx512(from, depth, count, depth, packed);
        // Its own copy of the columns: what stands beside them must not matter.
        std::vector<Bf16> columns_only(16 * ((column_count + 15) / 16) * depth, ToBf16(kNan));
        std::copy_n(narrow.begin() + column * depth, column_count * depth, columns_only.begin());
        NarrowDotsAvx512Bf16(
            {count, column_count, depth, packed, columns_only.data(), depth, c, column_count});
      };
      std::vector<float> c(rows * columns + 1, kNan);
      run(a.data(), rows, 0, columns, c.data());
      ExpectDots(c, a, b, rows, columns, depth, [&](int64_t i, int64_t j) {
        float single = kNan;
        run(&a[i * depth], 1, j, 1, &single);
        return single;
      });
    }
}

TEST(BlockOps, ScaledDotsAreTheDotsTimesTheScales) {
  for (const auto& [name, ops] : OpsThatRunHere())
    for (auto [rows, columns] : {std::pair<int64_t, int64_t>{7, 11}, {1, 39}, {4, 16}}) {
      const int64_t depth = 24;
      const auto a = Normals(rows * depth, 1), b = Normals(columns * depth, 2);
      const auto scale = Normals(rows + columns, 3);
      std::vector<float> plain(rows * columns), c(plain);
      ops->dots(
          {rows, columns, depth, a.data(), depth, b.data(), false, depth, plain.data(), columns});
      ops->dots({rows, columns, depth, a.data(), depth, b.data(), false, depth, c.data(), columns,
                 scale.data() + rows - 1, -1});
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j)
          ASSERT_EQ(c[i * columns + j], plain[i * columns + j] * scale[rows - 1 - i + j]) << name;
    }
}

TEST(BlockOps, NarrowRoundsAsToBf16Does) {
  auto x = Normals(43, 1);
  for (float special : {0.0f, -0.0f, 1e-40f, kNan, -kNan, 1.00390625f, 1.01171875f, 3.4e38f,
                        std::numeric_limits<float>::infinity()})
    x.push_back(special);
  for (const auto& [name, ops] : OpsThatRunHere())
    for (size_t count : {size_t{1}, size_t{8}, size_t{16}, size_t{21}, x.size()}) {
      const size_t begin = x.size() - count;
      std::vector<Bf16> narrow(count + 1, Bf16{0x1234});
      ops->narrow(x.data() + begin, static_cast<int64_t>(count), narrow.data());
      for (size_t i = 0; i < count; ++i)
        ASSERT_EQ(narrow[i].bits, ToBf16(x[begin + i]).bits) << name << " " << x[begin + i];
      ASSERT_EQ(narrow[count].bits, 0x1234) << name << " writes beyond " << count;
    }
}

TEST(BlockOps, TheExponentialOfASoftmaxPageIsWithin2Ulp) {
  SplitMix64 random(1);
  for (const auto& [name, ops] : OpsThatRunHere()) {
    double worst = 0;
    for (int page = 0; page < 4000; ++page) {
      float s[64], expected[64];
      s[0] = 0;  // the top, so that the arguments are exact
      for (int i = 1; i < 64; ++i)
        s[i] = -static_cast<float>(random.Uniform() * (page % 2 ? 87.3 : 1.0));
      for (int i = 0; i < 64; ++i) expected[i] = s[i];
      float top = -std::numeric_limits<float>::infinity(), sum = 0;
      EXPECT_EQ(ops->softmax_page(s, 64, 1.0f, 0, &top, &sum), 0.0f);
      EXPECT_EQ(top, 0.0f);
      double total = 0;
      for (int i = 0; i < 64; ++i) {
        const double exact = std::exp(double{expected[i]});
        const double ulp = std::ldexp(1.0, std::ilogb(exact) - 23);
        worst = std::max(worst, std::abs(s[i] - exact) / ulp);
        total += exact;
      }
      EXPECT_NEAR(sum, total, total * 1e-6);
    }
    EXPECT_LE(worst, 2.0) << name;
    RecordProperty(name, fmt::format("{:.2f} ulp", worst));
  }
}

// The capped scores are seen through the softmax: their difference from the top, after exp.
TEST(BlockOps, ACappedSoftmaxPageFollowsTheHyperbolicTangent) {
  SplitMix64 random(2);
  for (const auto& [name, ops] : OpsThatRunHere())
    for (float reach : {0.1f, 1.0f, 10.0f, 1e6f}) {
      const float scale = 0.5f, cap = 3;
      float s[64], before[64];
      for (float& x : s) x = reach * random.Normal();
      s[7] = std::numeric_limits<float>::infinity();
      std::copy_n(s, 64, before);
      float top = -std::numeric_limits<float>::infinity(), sum = 0;
      ops->softmax_page(s, 64, scale, cap, &top, &sum);
      EXPECT_NEAR(top, cap, 1e-6);
      for (int i = 0; i < 64; ++i) {
        const double exact = std::exp(cap * std::tanh(scale * double{before[i]}) - cap);
        EXPECT_NEAR(s[i] / exact, 1, 2e-6) << name << " " << before[i];
      }
    }
}

TEST(BlockOps, SoftmaxPagesContinueOneAnotherAndIgnoreWhatLiesBeyondCount) {
  for (const auto& [name, ops] : OpsThatRunHere()) {
    const auto scores = Normals(3 * 64, 5);
    float top = -std::numeric_limits<float>::infinity(), sum = 0;
    std::vector<double> weights;
    const int64_t counts[] = {64, 64, 21};
    for (int page = 0; page < 3; ++page) {
      float s[64];
      for (int i = 0; i < 64; ++i) s[i] = i < counts[page] ? scores[page * 64 + i] * 40 : kNan;
      const double factor = ops->softmax_page(s, counts[page], 0.5f, 0, &top, &sum);
      for (double& w : weights) w *= factor;
      for (int i = 0; i < 64; ++i) {
        if (i < counts[page]) {
          weights.push_back(s[i]);
        } else {
          EXPECT_EQ(s[i], 0.0f);
        }
      }
    }
    double high = -1e9, total = 0;
    for (size_t i = 0; i < weights.size(); ++i) high = std::max(high, scores[i] * 20.0);
    for (size_t i = 0; i < weights.size(); ++i) total += std::exp(scores[i] * 20.0 - high);
    for (size_t i = 0; i < weights.size(); ++i)
      EXPECT_NEAR(weights[i] / sum, std::exp(scores[i] * 20.0 - high) / total, 1e-5) << name;
  }
}

TEST(BlockOps, MovesAndRounds) {
  for (const auto& [name, ops] : OpsThatRunHere()) {
    const auto x = Normals(27 * 19, 6);
    std::vector<float> turned(19 * 30, kNan), back(27 * 19, kNan);
    ops->transpose(x.data(), 19, 27, 19, turned.data(), 30);
    for (int64_t r = 0; r < 27; ++r)
      for (int64_t c = 0; c < 19; ++c) ASSERT_EQ(turned[c * 30 + r], x[r * 19 + c]);
    const auto narrow = Narrow(x);
    ops->widen(narrow.data(), true, 27 * 19, back.data());
    for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(back[i], RoundToBf16(x[i]));
    std::vector<float> y = x;
    y[3] = kNan;
    y[5] = std::numeric_limits<float>::infinity();
    const std::vector<float> before = y;
    ops->divide(y.data(), 27 * 19 - 1, 3.0f, true);
    EXPECT_TRUE(std::isnan(y[3]));
    for (size_t i = 0; i + 1 < y.size(); ++i) {
      const float expected = RoundToBf16(before[i] / 3.0f);
      ASSERT_TRUE(i == 3 || y[i] == expected) << i;
    }
    EXPECT_EQ(y.back(), before.back());
  }
}

TEST(HeadShares, CoverEveryHeadOnceAndBalanceCost) {
  SplitMix64 random(7);
  for (int trial = 0; trial < 200; ++trial) {
    const int64_t sequences = 1 + random.Below(6), heads = 1 + random.Below(9);
    const int lanes = 1 + static_cast<int>(random.Below(7));
    std::vector<double> costs;
    double total = 0, most = 0;
    for (int64_t s = 0; s < sequences; ++s) {
      costs.push_back(static_cast<double>(random.Below(4) * random.Below(1000)));
      total += costs[s] * heads;
      most = std::max(most, costs[s]);
    }
    std::vector<int> seen(sequences * heads, 0);
    for (int lane = 0; lane < lanes; ++lane) {
      double share = 0;
      ForHeadShares(
          sequences, heads, lane, lanes, [&](int64_t s) { return costs[s]; },
          [&](int64_t s, int64_t begin, int64_t end) {
            for (int64_t h = begin; h < end; ++h) ++seen[s * heads + h];
            share += costs[s] * static_cast<double>(end - begin);
          });
      EXPECT_LE(share, total / lanes + most + 1e-6);
    }
    for (int64_t s = 0; s < sequences; ++s)
      for (int64_t h = 0; h < heads; ++h) EXPECT_EQ(seen[s * heads + h], costs[s] > 0) << trial;
  }
}

}  // namespace
}  // namespace sluice
