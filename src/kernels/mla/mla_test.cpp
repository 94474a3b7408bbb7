#include "kernels/mla/mla.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "base/random.h"
#include "kernels/linear/panel_amx_emulated.h"
#include "kernels/mla/variants.h"

namespace sluice {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Bit for bit, so that NaN equals NaN and 0 is not -0.
bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

struct Config {
  MlaShape shape;
  Rounding rounding = Rounding::kBf16;
  DType cache_dtype = DType::kBf16;
};

float Draw(SplitMix64& random, const Config& config, float size) {
  const float x = size * random.Normal();
  return config.rounding == Rounding::kBf16 ? RoundToBf16(x) : x;
}

// A layer: weights and a pool of pages that starts as NaN, with pages handed out in shuffled order.
class Layer {
 public:
  Layer(const Config& config, int64_t pages, uint64_t seed) : config(config), random_(seed) {
    const MlaShape& s = config.shape;
    const int64_t rows = s.heads * (s.nope + s.value);
    std::vector<Bf16> kv_b(rows * s.latent);
    const float size = 1 / std::sqrt(static_cast<float>(s.latent));
    for (Bf16& x : kv_b) x = ToBf16(size * random_.Normal());
    auto allocated = MlaWeights::Allocate(s);
    CHECK(allocated.ok());
    weights = std::make_unique<MlaWeights>(std::move(*allocated));
    weights->Pack(View<const Bf16, 2>(kv_b.data(), {rows, s.latent}));
    const int64_t page_bytes =
        kKvPageTokens * (s.latent + s.rope) * DTypeBytes(config.cache_dtype) + 64;
    pool_.assign(pages * page_bytes, std::byte{0xff});
    cache = {pool_.data(), page_bytes, config.cache_dtype};
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
  std::unique_ptr<MlaWeights> weights;
  LatentCache cache;

 private:
  SplitMix64 random_;
  std::vector<std::byte> pool_;
  std::vector<int32_t> free_;
};

struct Request {
  Request(Layer& layer, int64_t length, int64_t prompt_length, uint64_t seed)
      : length(length), prompt_length(prompt_length), pages(layer.TakePages(length)) {
    const MlaShape& s = layer.config.shape;
    SplitMix64 random(seed);
    for (int64_t i = 0; i < length * s.latent; ++i) latent.push_back(Draw(random, layer.config, 1));
    for (int64_t i = 0; i < length * s.rope; ++i) key.push_back(Draw(random, layer.config, 1));
    for (int64_t i = 0; i < length * s.heads * (s.nope + s.rope); ++i)
      q.push_back(Draw(random, layer.config, 1.5f));
    out.assign(length * s.heads * s.value, kNan);
  }

  int64_t length, prompt_length, done = 0;
  std::vector<int32_t> pages;
  std::vector<float> latent, key, q, out;
};

// Every variant of the dispatch table that runs here, and AMX on a model of its tiles.
std::vector<Variant<MlaArgs>> FastVariants() {
  std::vector<Variant<MlaArgs>> out = MlaVariants();
  out.pop_back();
  out.push_back({"amx_emulated", kAvx2, [](const MlaArgs& args, Exec& exec) {
                   MlaOverPages(args, exec, kBlockOpsAvx2,
                                args.bf16_inputs ? PanelProductAmxEmulated : PanelProductAvx2);
                 }});
  return out;
}

// Stores and attends the next rows[i] rows of each request as one ragged step.
void Step(const Variant<MlaArgs>& variant, const Layer& layer, std::vector<Request>& requests,
          const std::vector<int64_t>& rows, Team& team) {
  const MlaShape& s = layer.config.shape;
  std::vector<MlaSequence> sequences;
  std::vector<float> latent, key, q;
  int64_t total = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    const Request& r = requests[i];
    sequences.push_back({total, rows[i], r.done, r.prompt_length, r.pages.data()});
    const auto append = [&](std::vector<float>& to, const std::vector<float>& from, int64_t width) {
      to.insert(to.end(), from.begin() + r.done * width, from.begin() + (r.done + rows[i]) * width);
    };
    append(latent, r.latent, s.latent);
    append(key, r.key, s.rope);
    append(q, r.q, s.heads * (s.nope + s.rope));
    total += rows[i];
  }
  std::vector<float> out(total * s.heads * s.value, kNan);
  auto scratch = Buffer::Allocate(MlaScratchBytes(s, total, team.lanes()), "scratch");
  CHECK(scratch.ok());
  std::memset(scratch->data(), 0xff, scratch->size());  // NaN
  Arena arena(std::move(*scratch));
  Exec exec{team, ThisMachine(), arena};
  MlaStore(
      {{latent.data(), {total, s.latent}}, {key.data(), {total, s.rope}}, layer.cache, sequences},
      exec);
  variant.run({s,
               static_cast<float>(1 / std::sqrt(double(s.nope + s.rope))),
               {q.data(), {total, s.heads, s.nope + s.rope}},
               layer.weights.get(),
               layer.cache,
               sequences,
               layer.config.rounding,
               layer.config.rounding == Rounding::kBf16,
               {out.data(), {total, s.heads, s.value}}},
              exec);
  EXPECT_LE(arena.used_max(), MlaScratchBytes(s, total, team.lanes()));
  for (size_t i = 0; i < requests.size(); ++i) {
    Request& r = requests[i];
    const int64_t width = s.heads * s.value;
    std::copy_n(out.begin() + sequences[i].row_begin * width, rows[i] * width,
                r.out.begin() + r.done * width);
    r.done += rows[i];
  }
}

void Play(const Variant<MlaArgs>& variant, const Layer& layer, std::vector<Request>& requests,
          int64_t chunk, Team& team) {
  for (;;) {
    std::vector<int64_t> rows;
    for (const Request& r : requests) rows.push_back(std::min(chunk, r.length - r.done));
    if (*std::max_element(rows.begin(), rows.end()) == 0) return;
    Step(variant, layer, requests, rows, team);
  }
}

struct Lengths {
  int64_t length, prompt_length;
};

std::vector<Request> MakeRequests(Layer& layer, const std::vector<Lengths>& lengths) {
  std::vector<Request> requests;
  for (size_t i = 0; i < lengths.size(); ++i)
    requests.emplace_back(layer, lengths[i].length, lengths[i].prompt_length, 50 + i);
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

// Unrounded: fp32 sums of at most `latent` products and an exponential good to 2 ulp. Rounded: a
// value near the middle of two bfloat16s may fall on the other side, a step of 2^-8.
double Tolerance(Rounding rounding) { return rounding == Rounding::kNone ? 4e-6 : 6e-3; }

TEST(Mla, EveryVariantMatchesTheReferenceOnRaggedOddShapes) {
  const Config configs[] = {
      {{1, 32, 16, 32, 64}},
      {{1, 128, 64, 128, 512}},
      {{3, 32, 16, 32, 64}, Rounding::kNone, DType::kF32},
      {{6, 32, 64, 128, 64}, Rounding::kNone, DType::kF32},
      {{5, 24, 8, 40, 72}, Rounding::kNone, DType::kF32},  // not multiples of a panel or a vector
      {{4, 24, 8, 40, 72}},
      {{1, 7, 6, 5, 9}, Rounding::kNone, DType::kF32},
      {{1, 128, 64, 128, 512}, Rounding::kNone, DType::kF32},
  };
  const std::vector<Lengths> ragged = {{1, 1}, {1, 0}, {63, 63}, {64, 10}, {65, 65}, {130, 70}};
  Team team(2);
  for (const Config& config : configs) {
    // The reference is slow: at full widths only a prompt and a generated row on a second page.
    const std::vector<Lengths> lengths =
        config.shape.latent == 512 ? std::vector<Lengths>{{67, 66}} : ragged;
    Layer expected_layer(config, 20, 1);
    std::vector<Request> expected = MakeRequests(expected_layer, lengths);
    Play({"reference", kAnything, MlaVariants().back().run}, expected_layer, expected, 50, team);
    for (const auto& variant : FastVariants()) {
      Layer layer(config, 20, 1);
      std::vector<Request> actual = MakeRequests(layer, lengths);
      Play(variant, layer, actual, 50, team);
      for (size_t i = 0; i < lengths.size(); ++i)
        EXPECT_LE(MaxError(actual[i].out, expected[i].out), Tolerance(config.rounding))
            << variant.name << " heads " << config.shape.heads << " nope " << config.shape.nope
            << " latent " << config.shape.latent << " length " << lengths[i].length;
    }
  }
}

// Without rounding the two forms are the same mathematics.
TEST(Mla, ExpandedAndAbsorbedFormsAgree) {
  const Config config = {{2, 32, 16, 32, 64}, Rounding::kNone, DType::kF32};
  Team team(1);
  for (const auto& variant : MlaVariants()) {
    Layer layer(config, 8, 1), other(config, 8, 1);
    std::vector<Request> prompt = MakeRequests(layer, {{100, 100}});
    std::vector<Request> generated = MakeRequests(other, {{100, 0}});
    Play(variant, layer, prompt, 100, team);
    Play(variant, other, generated, 100, team);
    EXPECT_LE(MaxError(generated[0].out, prompt[0].out), 1e-5) << variant.name;
    EXPECT_EQ(std::count_if(prompt[0].out.begin(), prompt[0].out.end(),
                            [](float x) { return std::isnan(x); }),
              0);
  }
}

TEST(Mla, ChunkingBatchAndLanesChangeNoBit) {
  const std::vector<Lengths> lengths = {{300, 250}, {1, 1}, {0, 0}, {130, 130}, {66, 3}, {129, 64}};
  for (const Config& config :
       {Config{{3, 32, 16, 48, 64}}, Config{{1, 24, 8, 40, 72}, Rounding::kNone, DType::kF32}})
    for (const auto& variant : FastVariants()) {  // the reference goes row by row by construction
      Team one(1);
      Layer layer(config, 40, 1);
      std::vector<Request> expected = MakeRequests(layer, lengths);
      for (Request& r : expected) {  // each alone and in one piece
        std::vector<Request> alone = {std::move(r)};
        Play(variant, layer, alone, 1 << 20, one);
        r = std::move(alone[0]);
      }
      for (int64_t chunk : {1, 7, 64, 100, 1000})
        for (int lanes : {1, 2, 3}) {
          if (chunk != 100 && (chunk + lanes) % 3 != 0) continue;  // all of each, not all pairs
          Team team(lanes);
          Layer fresh(config, 40, 1);
          std::vector<Request> batch = MakeRequests(fresh, lengths);
          Play(variant, fresh, batch, chunk, team);
          for (size_t i = 0; i < lengths.size(); ++i)
            ASSERT_TRUE(SameBits(expected[i].out, batch[i].out))
                << variant.name << " chunk " << chunk << " lanes " << lanes << " length "
                << lengths[i].length;
        }
    }
}

TEST(Mla, ALongerPagePoolAndOtherPageOrderChangeNoBit) {
  const Config config = {{2, 32, 16, 32, 64}};
  Team team(2);
  for (const auto& variant : MlaVariants()) {
    Layer first(config, 8, 1), second(config, 30, 1);
    (void)second.TakePages(700);
    std::vector<Request> a = MakeRequests(first, {{200, 150}});
    std::vector<Request> b = MakeRequests(second, {{200, 150}});
    Play(variant, first, a, 90, team);
    Play(variant, second, b, 90, team);
    EXPECT_NE(a[0].pages, b[0].pages);
    EXPECT_TRUE(SameBits(a[0].out, b[0].out)) << variant.name;
  }
}

// Scores of several hundred either way: the softmax neither overflows nor loses the winner.
TEST(Mla, SurvivesExtremeScores) {
  const Config config = {{1, 32, 16, 32, 64}, Rounding::kNone, DType::kF32};
  Team team(1);
  Layer layer(config, 8, 1);
  std::vector<Request> original = MakeRequests(layer, {{140, 70}});
  for (float& x : original[0].q) x *= 300;
  std::vector<Request> expected = original;
  Play({"reference", kAnything, MlaVariants().back().run}, layer, expected, 64, team);
  for (const auto& variant : MlaVariants()) {
    std::vector<Request> actual = original;
    Play(variant, layer, actual, 64, team);
    EXPECT_LE(MaxError(actual[0].out, expected[0].out), 2e-3) << variant.name;
  }
}

TEST(MlaStore, WritesEachRowWhereThePageTableSaysAndNothingElse) {
  for (DType dtype : {DType::kBf16, DType::kF32}) {
    const int64_t latent = 9, rope = 6, rows = 70, begin = 60;
    const int32_t pages[] = {2, 0, 3};
    const int64_t element = DTypeBytes(dtype), page_bytes = 64 * (latent + rope) * element;
    std::vector<std::byte> pool(4 * page_bytes, std::byte{0xab});
    std::vector<float> c(rows * latent), key(rows * rope);
    for (size_t i = 0; i < c.size(); ++i) c[i] = static_cast<float>(i % 128) + 1;
    for (size_t i = 0; i < key.size(); ++i) key[i] = -static_cast<float>(i % 128) - 1;
    const MlaSequence sequence = {0, rows, begin, 1000, pages};
    Team team(2);
    Arena arena;
    Exec exec{team, ThisMachine(), arena};
    MlaStore({{c.data(), {rows, latent}},
              {key.data(), {rows, rope}},
              {pool.data(), page_bytes, dtype},
              {&sequence, 1}},
             exec);
    std::vector<std::byte> expected(4 * page_bytes, std::byte{0xab});
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < latent + rope; ++i) {
        const float x = i < latent ? c[r * latent + i] : key[r * rope + i - latent];
        const int64_t at = pages[(begin + r) / 64] * 64 + (begin + r) % 64;
        std::byte* to = expected.data() + (at * (latent + rope) + i) * element;
        const Bf16 narrow = ToBf16(x);
        if (dtype == DType::kBf16)
          std::memcpy(to, &narrow, 2);
        else
          std::memcpy(to, &x, 4);
      }
    EXPECT_EQ(0, std::memcmp(pool.data(), expected.data(), pool.size()));
  }
}

TEST(MlaWeights, PacksFloatAndBf16RowsAlikeInBothForms) {
  const MlaShape shape = {3, 24, 8, 40, 72};
  const int64_t per_head = shape.nope + shape.value, rows = shape.heads * per_head;
  SplitMix64 random(5);
  std::vector<float> wide(rows * shape.latent);
  std::vector<Bf16> narrow;
  for (float& x : wide) narrow.push_back(ToBf16(x = random.Normal()));
  auto a = MlaWeights::Allocate(shape), b = MlaWeights::Allocate(shape);
  ASSERT_TRUE(a.ok() && b.ok());
  a->Pack(View<const float, 2>(wide.data(), {rows, shape.latent}));
  b->Pack(View<const Bf16, 2>(narrow.data(), {rows, shape.latent}));
  EXPECT_GT(a->bytes(), uint64_t(2 * rows * shape.latent * 2) - 1);
  for (int64_t h = 0; h < shape.heads; ++h)
    for (int64_t r = 0; r < shape.latent; ++r)
      for (int64_t o = 0; o < per_head; ++o) {
        const float w = ToFloat(narrow[(h * per_head + o) * shape.latent + r]);
        for (const auto* weights : {&*a, &*b}) {
          ASSERT_EQ(weights->expand(h).At(o, r), w);
          if (o < shape.nope)
            ASSERT_EQ(weights->absorb_key(h).At(r, o), w);
          else
            ASSERT_EQ(weights->absorb_value(h).At(o - shape.nope, r), w);
        }
      }
}

}  // namespace
}  // namespace sluice
