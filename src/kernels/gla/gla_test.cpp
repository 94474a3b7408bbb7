#include "kernels/gla/gla.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/random.h"

namespace sluice {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Bit for bit, so that NaN equals NaN and 0 is not -0.
bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

struct Shape {
  int64_t heads, key_dim, value_dim;
  DType value_dtype = DType::kBf16;
};

// A request's whole history, and its memory, which starts as NaN: stale rows are never read.
struct Request {
  Request(const Shape& shape, int64_t length, uint64_t seed) : shape(shape), length(length) {
    SplitMix64 random(seed);
    q.resize(length * shape.heads * shape.key_dim);
    k.resize(q.size());
    v.resize(length * shape.heads * shape.value_dim);
    for (float& x : q) x = random.Normal();
    for (float& x : k) x = random.Normal();
    for (float& x : v)
      x = shape.value_dtype == DType::kBf16 ? RoundToBf16(random.Normal()) : random.Normal();
    out.assign(v.size(), kNan);
    state.assign(shape.heads * shape.key_dim * shape.value_dim, kNan);
    keys.assign(shape.heads * kGlaBlock * shape.key_dim, kNan);
    values.assign(shape.heads * kGlaBlock * shape.value_dim, kNan);  // all-ones halves: NaN too
    std::memset(values.data(), 0xff, values.size() * sizeof(float));
  }

  std::vector<float> Export(const std::vector<float>& decay) {
    std::vector<float> exported(state.size(), kNan);
    GlaExportState(decay.data(), shape.heads, shape.key_dim, shape.value_dim, shape.value_dtype,
                   {0, 0, done, state.data(), keys.data(), values.data()}, done, exported.data());
    return exported;
  }

  Shape shape;
  int64_t length, done = 0;
  std::vector<float> q, k, v, out, state, keys, values;
};

std::vector<float> Decays(int64_t heads) {  // the range of the published models
  const float range[] = {-0.93f, -0.0001f, -0.05f, -0.004f, -0.4f, 0.0f};
  std::vector<float> decay(heads);
  for (int64_t h = 0; h < heads; ++h) decay[h] = range[h % 6];
  return decay;
}

// Runs the next rows[i] rows of each request as one ragged step.
void Step(const Variant<GlaArgs>& variant, std::vector<Request>& requests,
          const std::vector<int64_t>& rows, const std::vector<float>& decay, Team& team) {
  const Shape& shape = requests[0].shape;
  std::vector<GlaSequence> sequences;
  std::vector<float> q, k, v;
  int64_t total = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    Request& r = requests[i];
    sequences.push_back({total, rows[i], r.done, r.state.data(), r.keys.data(), r.values.data()});
    const auto append = [&](std::vector<float>& to, const std::vector<float>& from, int64_t dim) {
      const auto row = from.begin() + r.done * shape.heads * dim;
      to.insert(to.end(), row, row + rows[i] * shape.heads * dim);
    };
    append(q, r.q, shape.key_dim);
    append(k, r.k, shape.key_dim);
    append(v, r.v, shape.value_dim);
    total += rows[i];
  }
  std::vector<float> out(v.size(), kNan);
  Arena scratch;
  Exec exec{team, ThisMachine(), scratch};
  const std::array<int64_t, 3> key_dims = {total, shape.heads, shape.key_dim};
  const std::array<int64_t, 3> value_dims = {total, shape.heads, shape.value_dim};
  const float scale = static_cast<float>(1 / std::sqrt(double(shape.key_dim)));
  variant.run({{q.data(), key_dims},
               {k.data(), key_dims},
               {v.data(), value_dims},
               decay.data(),
               scale,
               shape.value_dtype,
               sequences,
               {out.data(), value_dims}},
              exec);
  for (size_t i = 0; i < requests.size(); ++i) {
    Request& r = requests[i];
    const int64_t width = shape.heads * shape.value_dim;
    std::copy_n(out.begin() + sequences[i].row_begin * width, rows[i] * width,
                r.out.begin() + r.done * width);
    r.done += rows[i];
  }
}

// Runs requests to their ends in steps of at most `chunk` rows each.
void Play(const Variant<GlaArgs>& variant, std::vector<Request>& requests, int64_t chunk,
          const std::vector<float>& decay, Team& team) {
  for (;;) {
    std::vector<int64_t> rows;
    for (const Request& r : requests) rows.push_back(std::min(chunk, r.length - r.done));
    if (*std::max_element(rows.begin(), rows.end()) == 0) return;
    Step(variant, requests, rows, decay, team);
  }
}

struct Expected {
  std::vector<double> out, state;
};

Expected Recurrence(const Request& r, const std::vector<float>& decay, int64_t length) {
  const Shape& s = r.shape;
  Expected e;
  e.out.resize(length * s.heads * s.value_dim);
  e.state.assign(r.state.size(), 0.0);
  const View<const float, 3> q(r.q.data(), {length, s.heads, s.key_dim});
  const View<const float, 3> k(r.k.data(), {length, s.heads, s.key_dim});
  const View<const float, 3> v(r.v.data(), {length, s.heads, s.value_dim});
  const float scale = static_cast<float>(1 / std::sqrt(double(s.key_dim)));
  GlaRecurrence(q, k, v, decay.data(), scale, e.state.data(),
                {e.out.data(), {length, s.heads, s.value_dim}});
  return e;
}

// Largest difference of any element of a head's row, over the largest magnitude in that head's
// whole array (heads differ by orders of magnitude). [rows, heads, width].
double HeadError(const float* actual, const double* expected, int64_t rows, int64_t heads,
                 int64_t width) {
  double worst = 0;
  for (int64_t h = 0; h < heads; ++h) {
    double difference = 0, magnitude = 1e-30;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < width; ++i) {
        const int64_t at = (r * heads + h) * width + i;
        const double d = std::abs(actual[at] - expected[at]);
        difference = d <= difference ? difference : d;  // NaN wins
        magnitude = std::max(magnitude, std::abs(expected[at]));
      }
    if (!(difference / magnitude <= worst)) worst = difference / magnitude;
  }
  return worst;
}

double StateError(const Request& r, const std::vector<float>& state, const Expected& expected) {
  return HeadError(state.data(), expected.state.data(), 1, r.shape.heads,
                   r.shape.key_dim * r.shape.value_dim);
}

double OutError(const Request& r, const Expected& expected) {
  return HeadError(r.out.data(), expected.out.data(), r.length, r.shape.heads, r.shape.value_dim);
}

// Largest error over the largest magnitude of a head. Outputs: fp32 chains of at most 64 + key_dim
// products, and a lone token's q . k may cancel. State: 64 products a block and one rounding of the
// state a block, which decays with it.
constexpr double kOutTolerance = 1e-5;
constexpr double kStateTolerance = 2e-6;

TEST(Gla, EveryVariantMatchesTheRecurrenceOnOddShapes) {
  const Shape shapes[] = {{1, 24, 24},
                          {3, 32, 32},
                          {2, 48, 48},
                          {5, 64, 64},
                          {2, 128, 128},
                          {2, 16, 40},
                          {3, 40, 16},
                          {1, 7, 9},
                          {1, 96, 100},
                          {2, 32, 32, DType::kF32},
                          {1, 24, 33, DType::kF32}};
  Team team(2);
  uint64_t seed = 1;
  for (const auto& variant : GlaVariants())
    for (const Shape& shape : shapes) {
      const std::vector<float> decay = Decays(shape.heads);
      std::vector<Request> requests;
      for (int64_t length : {1, 31, 32, 33, 100, 0, 30})
        requests.emplace_back(shape, length, ++seed);
      Play(variant, requests, 50, decay, team);
      for (Request& r : requests) {
        const Expected expected = Recurrence(r, decay, r.length);
        SCOPED_TRACE(fmt::format("{} {}x{}x{} length {}", variant.name, shape.heads, shape.key_dim,
                                 shape.value_dim, r.length));
        EXPECT_LE(OutError(r, expected), kOutTolerance);
        EXPECT_LE(StateError(r, r.Export(decay), expected), kStateTolerance);
      }
    }
}

TEST(Gla, ChunkingBatchAndLanesChangeNoBit) {
  const Shape shape = {3, 16, 24};
  const std::vector<float> decay = Decays(shape.heads);
  const int64_t lengths[] = {1100, 1, 0, 130, 64, 257};
  for (const auto& variant : GlaVariants()) {
    if (variant.needs == kAnything) continue;  // row by row by construction, and slow
    Team one(1);
    std::vector<std::vector<Request>> alone;
    for (size_t i = 0; i < std::size(lengths); ++i) {
      alone.push_back({Request(shape, lengths[i], 100 + i)});
      Play(variant, alone.back(), 1 << 20, decay, one);
    }
    for (int64_t chunk : {1, 7, 64, 100, 1000, 1 << 20})
      for (int lanes : {1, 2, 3}) {
        if (chunk != 100 && (chunk + lanes) % 3 != 0) continue;  // all of each, not all pairs
        Team team(lanes);
        std::vector<Request> batch;
        for (size_t i = 0; i < std::size(lengths); ++i)
          batch.emplace_back(shape, lengths[i], 100 + i);
        Play(variant, batch, chunk, decay, team);
        for (size_t i = 0; i < std::size(lengths); ++i) {
          const Request& a = alone[i][0];
          SCOPED_TRACE(
              fmt::format("{} chunk {} lanes {} length {}", variant.name, chunk, lanes, a.length));
          ASSERT_TRUE(SameBits(a.out, batch[i].out));
          // Before the first block's end the state is still all NaN, which compares equal too.
          ASSERT_TRUE(SameBits(a.state, batch[i].state));
        }
      }
  }
}

TEST(Gla, StateDriftsLessThanTheBoundOver4096Tokens) {
  const Shape shape = {6, 16, 16};
  const std::vector<float> decay = Decays(shape.heads);
  Team team(1);
  for (const auto& variant : GlaVariants()) {
    std::vector<Request> request = {Request(shape, 4096, 7)};
    Play(variant, request, 1000, decay, team);
    const Expected expected = Recurrence(request[0], decay, 4096);
    EXPECT_LE(StateError(request[0], request[0].state, expected), kStateTolerance) << variant.name;
    EXPECT_LE(OutError(request[0], expected), 2e-6) << variant.name;
    RecordProperty(variant.name, fmt::format("state {:.1e}, out {:.1e}",
                                             StateError(request[0], request[0].state, expected),
                                             OutError(request[0], expected)));
  }
}

TEST(Gla, ExportsTheStateOfTheRecurrenceAtAnyLength) {
  const Shape shape = {2, 24, 32};
  const std::vector<float> decay = Decays(shape.heads);
  Team team(1);
  for (int64_t length : {0, 1, 31, 32, 33, 63, 64, 65, 127, 128, 200}) {
    std::vector<Request> request = {Request(shape, length, 9)};
    Play(GlaVariants()[0], request, 1 << 20, decay, team);
    const Expected expected = Recurrence(request[0], decay, length);
    EXPECT_LE(StateError(request[0], request[0].Export(decay), expected), kStateTolerance)
        << length;
  }
}

TEST(Gla, AStepWithoutRowsChangesNothing) {
  const Shape shape = {2, 32, 32};
  const std::vector<float> decay = Decays(shape.heads);
  Team team(1);
  for (const auto& variant : GlaVariants()) {
    std::vector<Request> requests = {Request(shape, 70, 1), Request(shape, 70, 2)};
    Step(variant, requests, {70, 0}, decay, team);
    const Request before = requests[0];
    Step(variant, requests, {0, 5}, decay, team);
    Step(variant, requests, {0, 0}, decay, team);
    EXPECT_TRUE(SameBits(before.state, requests[0].state));
    EXPECT_TRUE(SameBits(before.keys, requests[0].keys));
  }
}

// q, k and v as the model has them: column ranges of one fused projection.
TEST(Gla, ReadsStridedViews) {
  const int64_t rows = 70, heads = 2, dim = 16;
  SplitMix64 random(3);
  std::vector<float> fused(rows * 3 * heads * dim);
  for (float& x : fused) x = RoundToBf16(random.Normal());
  const View<const float, 2> all(fused.data(), {rows, 3 * heads * dim});
  const auto part = [&](int64_t i) { return all.Columns(i * heads * dim, heads * dim).Split(dim); };
  const std::vector<float> decay = Decays(heads);
  std::vector<double> state(heads * dim * dim, 0.0), expected(rows * heads * dim);
  GlaRecurrence(part(0), part(1), part(2), decay.data(), 0.25f, state.data(),
                {expected.data(), {rows, heads, dim}});
  for (const auto& variant : GlaVariants()) {
    std::vector<float> memory(heads * dim * dim), keys(heads * kGlaBlock * dim), values(keys),
        wide(rows * heads * 2 * dim, -1.0f);
    const GlaSequence sequence = {0, rows, 0, memory.data(), keys.data(), values.data()};
    Team team(1);
    Arena scratch;
    Exec exec{team, ThisMachine(), scratch};
    const View<float, 3> out(wide.data(), {rows, heads, dim}, {heads * 2 * dim, 2 * dim, 1});
    variant.run({part(0), part(1), part(2), decay.data(), 0.25f, DType::kBf16, {&sequence, 1}, out},
                exec);
    std::vector<float> dense;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t i = 0; i < dim; ++i) dense.push_back(out(r, h, i));
        EXPECT_EQ(wide[(r * heads + h) * 2 * dim + dim], -1.0f);  // nothing beyond the row
      }
    EXPECT_LE(HeadError(dense.data(), expected.data(), rows, heads, dim), kOutTolerance);
  }
}

}  // namespace
}  // namespace sluice
