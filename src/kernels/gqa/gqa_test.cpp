#include "kernels/gqa/gqa.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/random.h"
#include "kernels/gqa/kv_layout.h"
#include "kernels/gqa/variants.h"

namespace sluice {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Bit for bit, so that NaN equals NaN and 0 is not -0.
bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

struct Config {
  GqaShape shape;
  Rounding rounding = Rounding::kBf16;
  float softcap = 0;
  int64_t temperature_length = 0;
  bool narrow_inputs = rounding == Rounding::kBf16;  // bfloat16 queries and pages

  DType dtype() const { return narrow_inputs ? DType::kBf16 : DType::kF32; }
  int64_t q_width() const { return shape.heads * shape.head_dim; }
  int64_t kv_width() const { return shape.kv_heads * shape.head_dim; }
};

// A pool of pages that starts as NaN, handed out in shuffled order.
class Layer {
 public:
  Layer(const Config& config, int64_t pages, uint64_t seed) : config(config), random_(seed) {
    const int64_t page_bytes =
        KvPageBytes(config.dtype(), config.shape.kv_heads, config.shape.head_dim) + 64;
    pool_.assign(pages * page_bytes, std::byte{0xff});
    cache = {pool_.data(), page_bytes, config.dtype()};
    for (int64_t p = 0; p < pages; ++p) free_.push_back(static_cast<int32_t>(p));
    for (int64_t p = pages - 1; p > 0; --p)
      std::swap(free_[p], free_[random_.Below(static_cast<uint64_t>(p + 1))]);
  }

  std::vector<int32_t> TakePages(int64_t tokens) {
    std::vector<int32_t> pages;
    for (int64_t p = 0; p * kKvPageTokens < tokens; ++p) {
      CHECK(!free_.empty());
      pages.push_back(free_.back());
      free_.pop_back();
    }
    return pages;
  }

  Config config;
  KvCache cache;

 private:
  SplitMix64 random_;
  std::vector<std::byte> pool_;
  std::vector<int32_t> free_;
};

struct Request {
  Request(Layer& layer, int64_t length, uint64_t seed)
      : length(length), pages(layer.TakePages(length)) {
    const Config& c = layer.config;
    SplitMix64 random(seed);
    const auto draw = [&](int64_t width, float size) {
      std::vector<float> x(length * width);
      for (float& value : x) {
        value = size * random.Normal();
        if (c.narrow_inputs) value = RoundToBf16(value);
      }
      return x;
    };
    key = draw(c.kv_width(), 1);
    value = draw(c.kv_width(), 1);
    q = draw(c.q_width(), 1.5f);
    out.assign(length * c.q_width(), kNan);
  }

  int64_t length, done = 0;
  std::vector<int32_t> pages;
  std::vector<float> key, value, q, out;
};

const Variant<GqaArgs> kReference = {"reference", kAnything, GqaReference};

// Every variant of the dispatch table that runs here, and AMX on a model of its tiles.
std::vector<Variant<GqaArgs>> FastVariants() {
  std::vector<Variant<GqaArgs>> out = GqaVariants();
  out.pop_back();
  out.push_back({"amx_emulated", kAvx2, [](const GqaArgs& args, Exec& exec) {
                   GqaOverPages(args, exec, kBlockOpsAvx2,
                                {.tiles = SuitsTiles(args) ? &kTileOpsEmulated : nullptr});
                 }});
  return out;
}

// Stores and attends the next rows[i] rows of each request as one ragged step.
void Step(const Variant<GqaArgs>& variant, const Layer& layer, std::vector<Request>& requests,
          const std::vector<int64_t>& rows, Team& team) {
  const Config& c = layer.config;
  std::vector<GqaSequence> sequences;
  std::vector<float> key, value, q;
  int64_t total = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    const Request& r = requests[i];
    sequences.push_back({total, rows[i], r.done, r.pages.data()});
    const auto append = [&](std::vector<float>& to, const std::vector<float>& from, int64_t width) {
      to.insert(to.end(), from.begin() + r.done * width, from.begin() + (r.done + rows[i]) * width);
    };
    append(key, r.key, c.kv_width());
    append(value, r.value, c.kv_width());
    append(q, r.q, c.q_width());
    total += rows[i];
  }
  std::vector<float> out(total * c.q_width(), kNan);
  auto scratch = Buffer::Allocate(GqaScratchBytes(c.shape, total, team.lanes()), "scratch");
  CHECK(scratch.ok());
  std::memset(scratch->data(), 0xff, scratch->size());  // NaN
  Arena arena(std::move(*scratch));
  Exec exec{team, ThisMachine(), arena};
  const int64_t kv_heads = c.shape.kv_heads, head_dim = c.shape.head_dim;
  GqaStore({{key.data(), {total, kv_heads, head_dim}},
            {value.data(), {total, kv_heads, head_dim}},
            c.shape,
            layer.cache,
            sequences},
           exec);
  variant.run({.shape = c.shape,
               .scale = static_cast<float>(1 / std::sqrt(double(head_dim))),
               .softcap = c.softcap,
               .temperature_length = c.temperature_length,
               .q = {q.data(), {total, c.shape.heads, head_dim}},
               .cache = layer.cache,
               .sequences = sequences,
               .rounding = c.rounding,
               .bf16_inputs = c.narrow_inputs,
               .out = {out.data(), {total, c.shape.heads, head_dim}}},
              exec);
  EXPECT_LE(arena.used_max(), arena.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    Request& r = requests[i];
    std::copy_n(out.begin() + sequences[i].row_begin * c.q_width(), rows[i] * c.q_width(),
                r.out.begin() + r.done * c.q_width());
    r.done += rows[i];
  }
}

void Play(const Variant<GqaArgs>& variant, const Layer& layer, std::vector<Request>& requests,
          int64_t chunk, Team& team) {
  for (;;) {
    std::vector<int64_t> rows;
    for (const Request& r : requests) rows.push_back(std::min(chunk, r.length - r.done));
    if (*std::max_element(rows.begin(), rows.end()) == 0) return;
    Step(variant, layer, requests, rows, team);
  }
}

std::vector<Request> MakeRequests(Layer& layer, const std::vector<int64_t>& lengths) {
  std::vector<Request> requests;
  for (size_t i = 0; i < lengths.size(); ++i) requests.emplace_back(layer, lengths[i], 50 + i);
  return requests;
}

double MaxError(const std::vector<float>& actual, const std::vector<float>& expected) {
  double difference = 0, magnitude = 1e-30;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double d = std::abs(double{actual[i]} - expected[i]);
    if (!(d <= difference)) difference = d;  // NaN wins
    magnitude = std::max(magnitude, std::abs(double{expected[i]}));
  }
  return difference / magnitude;
}

// Unrounded: fp32 sums and an exponential good to 2 ulp; tiles take a weight as two bfloat16s, good
// to 2^-17. Rounded: a value near the middle of two bfloat16s may fall on the other side, a step of
// 2^-8.
double Tolerance(const Config& config) {
  if (config.rounding == Rounding::kBf16) return 6e-3;
  return config.narrow_inputs ? 1e-5 : 4e-6;
}

TEST(Gqa, EveryVariantMatchesTheReferenceOnRaggedOddShapes) {
  const Config configs[] = {
      {{1, 1, 32}},
      {{4, 2, 24}},
      {{8, 2, 40}, Rounding::kNone},
      {{8, 1, 128}},
      {{8, 1, 128}, Rounding::kNone},
      {{2, 1, 80}, Rounding::kNone},
      {{4, 2, 80}},
      {{3, 1, 6}, Rounding::kNone},
      {{3, 3, 6}},
      {{4, 2, 33}},  // odd
      {{2, 1, 7}, Rounding::kNone},
      {{32, 1, 24}},  // more heads than a strip
      {{4, 2, 32}, Rounding::kNone, 3.0f},
      {{4, 2, 32}, Rounding::kNone, 3.0f, 16},
      {{4, 2, 32}, Rounding::kNone, 0.0f, 16},
      {{8, 2, 64}, Rounding::kBf16, 30.0f, 100},
      {{4, 2, 64}, Rounding::kNone, 5.0f, 100, true},
      {{34, 1, 32}, Rounding::kNone, 0, 0, true},
  };
  Team team(2);
  for (const Config& config : configs) {
    const std::vector<int64_t> lengths = {1, 2, 63, 64, 65, 130};
    Layer layer(config, 20, 1);
    const std::vector<Request> fresh = MakeRequests(layer, lengths);
    std::vector<Request> expected = fresh;
    Play(kReference, layer, expected, 50, team);
    for (const auto& variant : FastVariants()) {
      std::vector<Request> actual = fresh;
      Play(variant, layer, actual, 50, team);
      for (size_t i = 0; i < lengths.size(); ++i)
        EXPECT_LE(MaxError(actual[i].out, expected[i].out), Tolerance(config))
            << variant.name << " heads " << config.shape.heads << " of " << config.shape.kv_heads
            << " dim " << config.shape.head_dim << " length " << lengths[i];
    }
  }
}

// Several spans; only the last rows go through the (slow) reference.
TEST(Gqa, LongContextsMatchTheReference) {
  Team team(2);
  for (const Config& config :
       {Config{{4, 2, 32}, Rounding::kNone, 5.0f, 600}, Config{{2, 1, 16}, Rounding::kNone},
        Config{{4, 2, 32}, Rounding::kNone, 0, 0, true}})
    for (int64_t length : {511, 512, 513, 2200}) {
      Layer layer(config, 40, 1);
      const std::vector<Request> fresh = MakeRequests(layer, {length});
      std::vector<Request> expected = fresh, actual = fresh;
      for (const auto& variant : FastVariants()) {
        actual = fresh;
        Play(variant, layer, actual, 500, team);
        expected[0].done = length - 3;
        Step(kReference, layer, expected, {3}, team);
        const auto tail = [&](const Request& r) {
          return std::vector<float>(r.out.end() - 3 * config.q_width(), r.out.end());
        };
        EXPECT_LE(MaxError(tail(actual[0]), tail(expected[0])), Tolerance(config))
            << variant.name << " length " << length;
      }
    }
}

TEST(Gqa, ChunkingBatchAndLanesChangeNoBit) {
  const std::vector<int64_t> lengths = {600, 1, 0, 130, 66, 513};
  for (const Config& config :
       {Config{{6, 2, 40}}, Config{{4, 1, 24}, Rounding::kNone, 4.0f, 100},
        Config{{3, 3, 16}, Rounding::kNone}, Config{{8, 1, 16}}, Config{{4, 2, 32}}})
    for (const auto& variant : FastVariants()) {  // the reference goes row by row by construction
      Team one(1);
      Layer layer(config, 40, 1);
      const std::vector<Request> fresh = MakeRequests(layer, lengths);
      std::vector<Request> expected = fresh;
      for (Request& r : expected) {  // each alone and in one piece
        std::vector<Request> alone = {std::move(r)};
        Play(variant, layer, alone, 1 << 20, one);
        r = std::move(alone[0]);
      }
      for (int64_t chunk : {1, 3, 64, 100, 1000})
        for (int lanes : {1, 2, 3}) {
          if (chunk != 100 && (chunk + lanes) % 3 != 2) continue;  // all of each, not all pairs
          Team team(lanes);
          std::vector<Request> batch = fresh;
          Play(variant, layer, batch, chunk, team);
          for (size_t i = 0; i < lengths.size(); ++i)
            ASSERT_TRUE(SameBits(expected[i].out, batch[i].out))
                << variant.name << " chunk " << chunk << " lanes " << lanes << " length "
                << lengths[i];
        }
    }
}

// One row at the end of a long context is split over the lanes, in several rounds where many heads
// and lanes leave little room for partial results.
TEST(Gqa, ASplitContextHasTheBitsOfAWholeOne) {
  const int64_t length = 64 * 8 * 6 + 77;
  for (const Config& config : {Config{{2, 1, 16}}, Config{{96, 2, 8}}, Config{{6, 2, 32}}})
    for (const auto& variant : FastVariants()) {
      Layer layer(config, length / 64 + 1, 1);
      std::vector<Request> requests = MakeRequests(layer, {length});
      Team one(1);
      {
        std::vector<Request> fill = requests;
        Play({"", kAnything, [](const GqaArgs&, Exec&) {}}, layer, fill, 4096, one);
      }
      std::vector<float> expected;
      for (int lanes : {1, 2, 3, 6}) {
        Team team(lanes);
        std::vector<Request> last = requests;
        last[0].done = length - 2;
        Step(variant, layer, last, {2}, team);
        const std::vector<float> rows(last[0].out.end() - 2 * config.q_width(), last[0].out.end());
        if (lanes == 1) expected = rows;
        ASSERT_TRUE(SameBits(expected, rows)) << variant.name << " lanes " << lanes;
        ASSERT_FALSE(std::isnan(rows[0]));
      }
    }
}

TEST(Gqa, OtherPagesChangeNoBit) {
  const Config config = {{4, 2, 32}};
  Team team(2);
  for (const auto& variant : GqaVariants()) {
    Layer first(config, 8, 1), second(config, 30, 1);
    (void)second.TakePages(700);
    std::vector<Request> a = MakeRequests(first, {200}), b = MakeRequests(second, {200});
    Play(variant, first, a, 90, team);
    Play(variant, second, b, 90, team);
    EXPECT_NE(a[0].pages, b[0].pages);
    EXPECT_TRUE(SameBits(a[0].out, b[0].out)) << variant.name;
  }
}

// A fault in later positions of the same page reaches no row before them.
TEST(Gqa, RowsReadNothingBeyondTheirPosition) {
  Team team(1);
  for (Rounding rounding : {Rounding::kBf16, Rounding::kNone})
    for (const auto& variant : FastVariants()) {
      Layer layer({{4, 2, 32}, rounding}, 8, 1);
      const std::vector<Request> fresh = MakeRequests(layer, {100});
      std::vector<Request> expected = fresh, actual = fresh;
      Play(variant, layer, expected, 100, team);
      const int64_t width = layer.config.kv_width(), sound = 71;
      std::fill(actual[0].value.begin() + sound * width, actual[0].value.end(), kNan);
      std::fill(actual[0].key.begin() + sound * width, actual[0].key.end(), kNan);
      Play(variant, layer, actual, 100, team);
      const int64_t count = sound * layer.config.q_width();
      EXPECT_EQ(0, std::memcmp(actual[0].out.data(), expected[0].out.data(), count * 4))
          << variant.name;
      EXPECT_TRUE(std::isnan(actual[0].out[count]));
    }
}

// Scores of several hundred either way: the softmax neither overflows nor loses the winner.
TEST(Gqa, SurvivesExtremeScores) {
  Team team(1);
  for (float softcap : {0.0f, 50.0f}) {
    Layer layer({{2, 1, 32}, Rounding::kNone, softcap}, 12, 1);
    std::vector<Request> original = MakeRequests(layer, {600});
    for (float& x : original[0].q) x *= 300;
    std::vector<Request> expected = original;
    Play(kReference, layer, expected, 200, team);
    for (const auto& variant : FastVariants()) {
      std::vector<Request> actual = original;
      Play(variant, layer, actual, 200, team);
      EXPECT_LE(MaxError(actual[0].out, expected[0].out), 2e-3) << variant.name;
    }
  }
}

TEST(Gqa, TheTemperatureBeginsBeyondItsLength) {
  EXPECT_EQ(Temperature(0, 5000), 1);
  EXPECT_EQ(Temperature(1024, 1024), 1);
  EXPECT_NEAR(Temperature(1024, 1025), std::log2(1025) / 10, 1e-12);
  EXPECT_NEAR(Temperature(1024, 1 << 20), 2, 1e-12);
}

TEST(GqaStore, WritesEachElementWhereTheLayoutSaysAndNothingElse) {
  for (DType dtype : {DType::kBf16, DType::kF32}) {
    for (int64_t head_dim : {6, 7}) {
      const GqaShape shape = {4, 2, head_dim};
      const int64_t rows = 70, begin = 60, width = shape.kv_heads * shape.head_dim;
      const int32_t pages[] = {2, 0, 3};
      const int64_t element = DTypeBytes(dtype),
                    page_bytes = KvPageBytes(dtype, shape.kv_heads, shape.head_dim);
      std::vector<std::byte> pool(4 * page_bytes, std::byte{0xab});
      std::vector<float> key(rows * width), value(rows * width);
      for (size_t i = 0; i < key.size(); ++i) {
        key[i] = static_cast<float>(i % 128) + 1;
        value[i] = -static_cast<float>(i % 128) - 1;
      }
      const GqaSequence sequence = {0, rows, begin, pages};
      Team team(2);
      Arena arena;
      Exec exec{team, ThisMachine(), arena};
      GqaStore({{key.data(), {rows, shape.kv_heads, shape.head_dim}},
                {value.data(), {rows, shape.kv_heads, shape.head_dim}},
                shape,
                {pool.data(), page_bytes, dtype},
                {&sequence, 1}},
               exec);
      std::vector<std::byte> expected(4 * page_bytes, std::byte{0xab});
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t h = 0; h < shape.kv_heads; ++h)
          for (int64_t d = 0; d < shape.head_dim; ++d)
            for (bool is_value : {false, true}) {
              const int64_t t = (begin + r) % 64,
                            from = (r * shape.kv_heads + h) * shape.head_dim + d;
              const int64_t index =
                  is_value ? ValueIndex(dtype, t, d, shape.head_dim) : KeyIndex(dtype, t, d);
              std::byte* to = expected.data() + pages[(begin + r) / 64] * page_bytes +
                              (2 * h + is_value) * HeadKeysBytes(dtype, shape.head_dim) +
                              index * element;
              const float x = is_value ? value[from] : key[from];
              const Bf16 narrow = ToBf16(x);
              if (dtype == DType::kBf16)
                std::memcpy(to, &narrow, 2);
              else
                std::memcpy(to, &x, 4);
            }
      EXPECT_EQ(0, std::memcmp(pool.data(), expected.data(), pool.size()));
    }
  }
}

TEST(KvLayout, GivesEachElementItsOwnPlaceInAHeadsPage) {
  for (DType dtype : {DType::kBf16, DType::kF32})
    for (int64_t head_dim : {1, 2, 6, 33, 40, 128}) {
      const int64_t elements = HeadKeysBytes(dtype, head_dim) / DTypeBytes(dtype);
      std::vector<int> keys(elements, 0), values(elements, 0);
      for (int64_t t = 0; t < 64; ++t)
        for (int64_t d = 0; d < head_dim; ++d) {
          ++keys.at(KeyIndex(dtype, t, d));
          ++values.at(ValueIndex(dtype, t, d, head_dim));
        }
      for (const auto& places : {keys, values}) {
        EXPECT_EQ(*std::max_element(places.begin(), places.end()), 1);
        EXPECT_EQ(std::count(places.begin(), places.end(), 1), 64 * head_dim);
      }
    }
}

}  // namespace
}  // namespace sluice
