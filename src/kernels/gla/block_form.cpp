#include <immintrin.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "kernels/block/drive.h"
#include "kernels/gla/variants.h"

namespace sluice {
namespace {

constexpr int64_t kSlice = 64;       // key dimensions a state update weights at a time
constexpr int64_t kScoreGroup = 16;  // rows that share a product with the keys

// to = factor * from.
void Scale(const float* from, float factor, int64_t count, float* to) {
  const __m256 factors = _mm256_set1_ps(factor);
  int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    _mm256_storeu_ps(to + i, _mm256_mul_ps(factors, _mm256_loadu_ps(from + i)));
  for (; i < count; ++i) to[i] = factor * from[i];
}

// exp(g n) for n <= kGlaBlock: as doubles, then rounded once. Powers by doubling cost one
// exponential a head, and stay within 1e-14 of it.
class DecayPowers {
 public:
  DecayPowers() = default;
  bool IsFor(float g, float scale) const { return g == g_ && scale == scale_; }
  void Set(float g_float, float scale_float) {
    g_ = g_float;
    scale_ = scale_float;
    const double g = g_float, scale = scale_float;
    double power[2 * kGlaBlock];
    power[0] = 1;
    double top = std::exp(g);
    for (int64_t span = 1; span <= kGlaBlock; span *= 2, top *= top)
      for (int64_t i = 0; i < span; ++i) power[span + i] = power[i] * top;
    for (int64_t n = 0; n <= kGlaBlock; ++n) {
      plain_[n] = static_cast<float>(power[n]);
      scaled_[n] = static_cast<float>(scale * power[n]);
      falling_[kGlaBlock - n] = scaled_[n];
    }
  }
  float plain(int64_t n) const { return plain_[n]; }
  /// scale exp(g n), n ascending, from `n` on.
  const float* scaled(int64_t n) const { return scaled_ + n; }
  /// The same, n descending: [j] is scale exp(g (i - j)), 0 for j in (i, i + kScoreGroup).
  const float* falling(int64_t i) const { return falling_ + kGlaBlock - i; }

 private:
  float g_ = 1, scale_ = 0;  // no decay has an exponent above 0
  float plain_[kGlaBlock + 1], scaled_[kGlaBlock + 1], falling_[kGlaBlock + kScoreGroup] = {};
};

// The powers of one head, computed at most once a call for all sequences that a lane serves: with
// one row a sequence they would cost as much as the row itself. Small models find those of several
// layers from the step before.
const DecayPowers& PowersOfHead(const GlaArgs& args, int64_t head) {
  constexpr int64_t kHeadsKept = 64;
  constexpr int kWayBits = 2;
  thread_local DecayPowers kept[kHeadsKept][1 << kWayBits];
  const uint32_t hash = std::bit_cast<uint32_t>(args.decay[head]) * 0x9E3779B1u;
  DecayPowers& powers = kept[head % kHeadsKept][hash >> (32 - kWayBits)];
  if (!powers.IsFor(args.decay[head], args.scale)) powers.Set(args.decay[head], args.scale);
  return powers;
}

// One head of one sequence of a step.
class HeadStep {
 public:
  HeadStep(const GlaArgs& args, const GlaSequence& s, int64_t head, const BlockOps& ops)
      : args_(args),
        sequence_(s),
        ops_(ops),
        head_(head),
        key_dim_(args.q.dim(2)),
        value_dim_(args.v.dim(2)),
        wide_values_(args.value_dtype == DType::kF32),
        state_(s.state + head * key_dim_ * value_dim_),
        keys_(s.keys + head * kGlaBlock * key_dim_),
        values_(static_cast<std::byte*>(s.values) +
                head * kGlaBlock * value_dim_ * DTypeBytes(args.value_dtype)),
        powers_(PowersOfHead(args, head)) {}

  /// The only row of a step up to its weights (kGlaBlock floats), and the factor of q S.
  void BeginRow(float* weights, float* factor) {
    const int64_t begin = sequence_.position_begin % kGlaBlock;
    Append(sequence_.row_begin, begin, 1);
    Weigh(sequence_.row_begin, begin, 1, weights);
    *factor = *powers_.scaled(begin + 1);
  }
  void EndBlock() { Advance(sequence_.position_begin < kGlaBlock); }

  void Run() {
    for (int64_t done = 0; done < sequence_.row_count;) {
      const int64_t position = sequence_.position_begin + done;
      const int64_t begin = position % kGlaBlock;
      const int64_t count = std::min(kGlaBlock - begin, sequence_.row_count - done);
      const bool first_block = position < kGlaBlock;
      Append(sequence_.row_begin + done, begin, count);
      Read(sequence_.row_begin + done, begin, count, first_block);
      if (begin + count == kGlaBlock) Advance(first_block);
      done += count;
    }
  }

 private:
  // Copies the keys and values of `count` rows from `row` on into the buffers from `begin` on.
  void Append(int64_t row, int64_t begin, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      std::copy_n(&args_.k(row + i, head_, 0), key_dim_, keys_ + (begin + i) * key_dim_);
      const float* v = &args_.v(row + i, head_, 0);
      const int64_t at = (begin + i) * value_dim_;
      if (wide_values_) {
        std::copy_n(v, value_dim_, reinterpret_cast<float*>(values_) + at);
      } else {
        ops_.narrow(v, value_dim_, reinterpret_cast<Bf16*>(values_) + at);
      }
    }
  }

  // weights = falling(i) (q K') for the block's tokens [begin, begin + count), kGlaBlock floats a
  // row.
  void Weigh(int64_t row, int64_t begin, int64_t count, float* weights) {
    const float* q = &args_.q(row, head_, 0);
    const int64_t q_row = args_.q.stride(0);
    for (int64_t r = 0; r < count; r += kScoreGroup) {
      const int64_t rows = std::min(kScoreGroup, count - r);
      ops_.dots({rows, begin + r + rows, key_dim_, q + r * q_row, q_row, keys_, false, key_dim_,
                 weights + r * kGlaBlock, kGlaBlock, powers_.falling(begin + r), -1});
    }
  }

  // out = scaled(i + 1) (q S) + weights V for the block's tokens [begin, begin + count).
  void Read(int64_t row, int64_t begin, int64_t count, bool first_block) {
    const float* q = &args_.q(row, head_, 0);
    float* out = &args_.out(row, head_, 0);
    const int64_t q_row = args_.q.stride(0), out_row = args_.out.stride(0);
    if (!first_block)
      ops_.product({count, value_dim_, key_dim_, q, q_row, 1, state_, false, value_dim_, out,
                    out_row, nullptr});
    alignas(64) float weights[kGlaBlock * kGlaBlock];
    Weigh(row, begin, count, weights);
    CausalProduct(ops_,
                  {count, value_dim_, begin + 1, weights, kGlaBlock, 1, values_, !wide_values_,
                   value_dim_, out, out_row, first_block ? nullptr : powers_.scaled(begin + 1)});
  }

  // S = plain(B) S + (weighted K)^T V, a slice of key dimensions at a time; the block's sum first,
  // so that S itself is rounded once a block.
  void Advance(bool first_block) {
    alignas(64) float weighted[kGlaBlock * kSlice];
    std::array<float, kSlice> forget;
    forget.fill(powers_.plain(kGlaBlock));
    for (int64_t a = 0; a < key_dim_; a += kSlice) {
      const int64_t width = std::min(kSlice, key_dim_ - a);
      for (int64_t j = 0; j < kGlaBlock; ++j) {
        Scale(keys_ + j * key_dim_ + a, powers_.plain(kGlaBlock - 1 - j), width,
              weighted + j * kSlice);
      }
      ops_.product({width, value_dim_, kGlaBlock, weighted, 1, kSlice, values_, !wide_values_,
                    value_dim_, state_ + a * value_dim_, value_dim_,
                    first_block ? nullptr : forget.data(), true});
    }
  }

  const GlaArgs& args_;
  const GlaSequence& sequence_;
  const BlockOps& ops_;
  const int64_t head_, key_dim_, value_dim_;
  const bool wide_values_;
  float* const state_;
  float* const keys_;
  std::byte* const values_;
  const DecayPowers& powers_;
};

// Heads [begin, end) of a sequence with one row: what HeadStep does, but the products of several
// heads together.
void OneRow(const GlaArgs& args, const GlaSequence& s, int64_t begin, int64_t end,
            const BlockOps& ops) {
  constexpr int64_t kHeads = 8;
  const int64_t key_dim = args.q.dim(2), value_dim = args.v.dim(2);
  const bool first_block = s.position_begin < kGlaBlock;
  const bool narrow = args.value_dtype == DType::kBf16;
  for (int64_t h = begin; h < end; h += kHeads) {
    const int64_t count = std::min(kHeads, end - h);
    alignas(64) float weights[kHeads * kGlaBlock];
    float factors[kHeads];
    for (int64_t i = 0; i < count; ++i)
      HeadStep(args, s, h + i, ops).BeginRow(weights + i * kGlaBlock, factors + i);
    float* const out = &args.out(s.row_begin, h, 0);
    const int64_t out_next = args.out.stride(1);
    if (!first_block)
      ops.row_products({count, value_dim, key_dim, &args.q(s.row_begin, h, 0), args.q.stride(1),
                        s.state + h * key_dim * value_dim, false, value_dim, key_dim * value_dim,
                        out, out_next, nullptr});
    ops.row_products(
        {count, value_dim, s.position_begin % kGlaBlock + 1, weights, kGlaBlock,
         static_cast<const std::byte*>(s.values) +
             h * kGlaBlock * value_dim * static_cast<int64_t>(DTypeBytes(args.value_dtype)),
         narrow, value_dim, kGlaBlock * value_dim, out, out_next, first_block ? nullptr : factors});
    if ((s.position_begin + 1) % kGlaBlock == 0)
      for (int64_t i = 0; i < count; ++i) HeadStep(args, s, h + i, ops).EndBlock();
  }
}

// A head's cost in rows: reading its state once is worth about this many.
constexpr int64_t kStateRows = 8;

void BlockForm(const GlaArgs& args, Exec& exec, const BlockOps& ops) {
  const auto cost = [&](int64_t s) {
    const int64_t rows = args.sequences[s].row_count;
    return rows == 0 ? 0.0 : static_cast<double>(rows + kStateRows);
  };
  exec.team.Run([&](int lane) {
    ForHeadShares(static_cast<int64_t>(args.sequences.size()), args.q.dim(1), lane,
                  exec.team.lanes(), cost, [&](int64_t s, int64_t begin, int64_t end) {
                    const GlaSequence& sequence = args.sequences[s];
                    if (sequence.row_count == 1) return OneRow(args, sequence, begin, end, ops);
                    for (int64_t h = begin; h < end; ++h) HeadStep(args, sequence, h, ops).Run();
                  });
  });
}

}  // namespace

void GlaAvx2(const GlaArgs& args, Exec& exec) { BlockForm(args, exec, kBlockOpsAvx2); }
void GlaAvx512(const GlaArgs& args, Exec& exec) { BlockForm(args, exec, kBlockOpsAvx512); }

}  // namespace sluice
