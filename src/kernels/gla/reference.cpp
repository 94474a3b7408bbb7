#include <cmath>
#include <vector>

#include "kernels/gla/variants.h"

namespace sluice {
namespace {

// Rows of one head's value buffer.
class Values {
 public:
  Values(const GlaSequence& sequence, DType dtype, int64_t head, int64_t width)
      : base_(static_cast<std::byte*>(sequence.values) +
              head * kGlaBlock * width * DTypeBytes(dtype)),
        dtype_(dtype),
        width_(width) {}
  float Get(int64_t row, int64_t column) const {
    const int64_t at = row * width_ + column;
    return dtype_ == DType::kBf16 ? ToFloat(reinterpret_cast<const Bf16*>(base_)[at])
                                  : reinterpret_cast<const float*>(base_)[at];
  }
  void Set(int64_t row, int64_t column, float value) const {
    const int64_t at = row * width_ + column;
    if (dtype_ == DType::kBf16)
      reinterpret_cast<Bf16*>(base_)[at] = ToBf16(value);
    else
      reinterpret_cast<float*>(base_)[at] = value;
  }

 private:
  std::byte* base_;
  DType dtype_;
  int64_t width_;
};

// out = exp(g n) S_b + sum_{j < n} exp(g (n - 1 - j)) k_j^T v_j: the state n tokens into its block.
// `state` is nullptr in block 0. out may be `state`.
void StateAfter(int64_t n, double g, const float* state, const float* keys, const Values& values,
                int64_t key_dim, int64_t value_dim, float* out) {
  std::vector<double> sum(value_dim);
  for (int64_t a = 0; a < key_dim; ++a) {
    for (int64_t c = 0; c < value_dim; ++c)
      sum[c] = state ? std::exp(g * n) * state[a * value_dim + c] : 0.0;
    for (int64_t j = 0; j < n; ++j) {
      const double weight = std::exp(g * (n - 1 - j)) * keys[j * key_dim + a];
      for (int64_t c = 0; c < value_dim; ++c) sum[c] += weight * values.Get(j, c);
    }
    for (int64_t c = 0; c < value_dim; ++c) out[a * value_dim + c] = static_cast<float>(sum[c]);
  }
}

// One token of one head in the block form: this function is the definition of what Gla writes.
void Step(const GlaArgs& args, const GlaSequence& s, int64_t row_idx, int64_t h) {
  const int64_t key_dim = args.q.dim(2), value_dim = args.v.dim(2);
  const int64_t position = s.position_begin + row_idx, row = s.row_begin + row_idx;
  const int64_t i = position % kGlaBlock;
  const double g = args.decay[h];
  float* state = s.state + h * key_dim * value_dim;
  const bool first_block = position < kGlaBlock;
  float* keys = s.keys + h * kGlaBlock * key_dim;
  const Values values(s, args.value_dtype, h, value_dim);

  for (int64_t a = 0; a < key_dim; ++a) keys[i * key_dim + a] = args.k(row, h, a);
  for (int64_t c = 0; c < value_dim; ++c) values.Set(i, c, args.v(row, h, c));

  std::vector<double> sum(value_dim, 0.0);
  if (!first_block)
    for (int64_t a = 0; a < key_dim; ++a) {
      const double weight = std::exp(g * (i + 1)) * args.q(row, h, a);
      for (int64_t c = 0; c < value_dim; ++c) sum[c] += weight * state[a * value_dim + c];
    }
  for (int64_t j = 0; j <= i; ++j) {
    double product = 0;
    for (int64_t a = 0; a < key_dim; ++a)
      product += double{args.q(row, h, a)} * keys[j * key_dim + a];
    product *= std::exp(g * (i - j));
    for (int64_t c = 0; c < value_dim; ++c) sum[c] += product * values.Get(j, c);
  }
  for (int64_t c = 0; c < value_dim; ++c)
    args.out(row, h, c) = static_cast<float>(args.scale * sum[c]);

  if (i == kGlaBlock - 1)
    StateAfter(kGlaBlock, g, first_block ? nullptr : state, keys, values, key_dim, value_dim,
               state);
}

}  // namespace

void GlaReference(const GlaArgs& args, Exec& exec) {
  exec.team.ParallelFor(args.q.dim(1), 1, [&](int64_t begin, int64_t end) {
    for (const GlaSequence& s : args.sequences)
      for (int64_t h = begin; h < end; ++h)
        for (int64_t r = 0; r < s.row_count; ++r) Step(args, s, r, h);
  });
}

void GlaRecurrence(View<const float, 3> q, View<const float, 3> k, View<const float, 3> v,
                   const float* decay, float scale, double* state, View<double, 3> out) {
  const int64_t key_dim = q.dim(2), value_dim = v.dim(2);
  for (int64_t t = 0; t < q.dim(0); ++t)
    for (int64_t h = 0; h < q.dim(1); ++h) {
      const double forget = std::exp(double{decay[h]});
      for (int64_t c = 0; c < value_dim; ++c) out(t, h, c) = 0;
      for (int64_t a = 0; a < key_dim; ++a) {
        double* s = state + (h * key_dim + a) * value_dim;
        for (int64_t c = 0; c < value_dim; ++c) {
          s[c] = forget * s[c] + double{k(t, h, a)} * v(t, h, c);
          out(t, h, c) += scale * (q(t, h, a) * s[c]);
        }
      }
    }
}

void GlaExportState(const float* decay, int64_t heads, int64_t key_dim, int64_t value_dim,
                    DType value_dtype, const GlaSequence& sequence, int64_t length, float* out) {
  for (int64_t h = 0; h < heads; ++h) {
    const int64_t size = key_dim * value_dim;
    StateAfter(length % kGlaBlock, decay[h],
               length < kGlaBlock ? nullptr : sequence.state + h * size,
               sequence.keys + h * kGlaBlock * key_dim, Values(sequence, value_dtype, h, value_dim),
               key_dim, value_dim, out + h * size);
  }
}

}  // namespace sluice
