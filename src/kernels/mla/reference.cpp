#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/mla/variants.h"

namespace sluice {
namespace {

// One head of one sequence. Everything in double but for the contract's rounding points.
class Head {
 public:
  Head(const MlaArgs& args, const MlaSequence& sequence, int64_t head)
      : args_(args), shape_(args.shape), sequence_(sequence), head_(head) {}

  void Run() {
    const int64_t first = sequence_.position_begin;
    const int64_t prompt_rows =
        std::clamp<int64_t>(sequence_.prompt_length - first, 0, sequence_.row_count);
    if (prompt_rows > 0) Expand(first + prompt_rows);
    for (int64_t r = 0; r < sequence_.row_count; ++r) {
      if (r < prompt_rows)
        Expanded(sequence_.row_begin + r, first + r);
      else
        Absorbed(sequence_.row_begin + r, first + r);
    }
  }

 private:
  double Round(double x) const {
    return args_.rounding == Rounding::kBf16 ? RoundToBf16(static_cast<float>(x))
                                             : static_cast<double>(static_cast<float>(x));
  }

  // Value `i` of [latent | rope] of a position.
  double Cached(int64_t position, int64_t i) const {
    const LatentCache& cache = args_.cache;
    const std::byte* page =
        cache.base + sequence_.pages[position / kKvPageTokens] * cache.page_stride;
    const int64_t at = position % kKvPageTokens * (shape_.latent + shape_.rope) + i;
    return cache.dtype == DType::kBf16 ? ToFloat(reinterpret_cast<const Bf16*>(page)[at])
                                       : reinterpret_cast<const float*>(page)[at];
  }

  // [k_nope | v] of positions [0, count).
  void Expand(int64_t count) {
    const int64_t width = shape_.nope + shape_.value;
    expanded_.assign(count * width, 0.0);
    for (int64_t o = 0; o < width; ++o)
      for (int64_t r = 0; r < shape_.latent; ++r) {
        const double w = args_.weights->expand(head_).At(o, r);
        for (int64_t j = 0; j < count; ++j) expanded_[j * width + o] += w * Cached(j, r);
      }
    for (double& x : expanded_) x = Round(x);
  }

  // scores -> softmax, in place.
  static void Softmax(std::vector<double>& scores) {
    const double top = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (double& s : scores) sum += s = std::exp(s - top);
    for (double& s : scores) s /= sum;
  }

  double RopeScore(int64_t row, int64_t j) const {
    double sum = 0;
    for (int64_t i = 0; i < shape_.rope; ++i)
      sum += args_.q(row, head_, shape_.nope + i) * Cached(j, shape_.latent + i);
    return sum;
  }

  void Expanded(int64_t row, int64_t position) const {
    const int64_t width = shape_.nope + shape_.value;
    std::vector<double> scores(position + 1);
    for (int64_t j = 0; j <= position; ++j) {
      double sum = RopeScore(row, j);
      for (int64_t i = 0; i < shape_.nope; ++i)
        sum += args_.q(row, head_, i) * expanded_[j * width + i];
      scores[j] = args_.scale * sum;
    }
    Softmax(scores);
    for (int64_t i = 0; i < shape_.value; ++i) {
      double sum = 0;
      for (int64_t j = 0; j <= position; ++j)
        sum += scores[j] * expanded_[j * width + shape_.nope + i];
      args_.out(row, head_, i) = static_cast<float>(Round(sum));
    }
  }

  void Absorbed(int64_t row, int64_t position) const {
    std::vector<double> ql(shape_.latent), ol(shape_.latent), scores(position + 1);
    for (int64_t r = 0; r < shape_.latent; ++r) {
      double sum = 0;
      for (int64_t i = 0; i < shape_.nope; ++i)
        sum += args_.q(row, head_, i) * double{args_.weights->absorb_key(head_).At(r, i)};
      ql[r] = Round(sum);
    }
    for (int64_t j = 0; j <= position; ++j) {
      double sum = RopeScore(row, j);
      for (int64_t r = 0; r < shape_.latent; ++r) sum += ql[r] * Cached(j, r);
      scores[j] = args_.scale * sum;
    }
    Softmax(scores);
    for (int64_t r = 0; r < shape_.latent; ++r) {
      double sum = 0;
      for (int64_t j = 0; j <= position; ++j) sum += scores[j] * Cached(j, r);
      ol[r] = Round(sum);
    }
    for (int64_t i = 0; i < shape_.value; ++i) {
      double sum = 0;
      for (int64_t r = 0; r < shape_.latent; ++r)
        sum += ol[r] * args_.weights->absorb_value(head_).At(i, r);
      args_.out(row, head_, i) = static_cast<float>(Round(sum));
    }
  }

  const MlaArgs& args_;
  const MlaShape& shape_;
  const MlaSequence& sequence_;
  const int64_t head_;
  std::vector<double> expanded_;  // [positions, nope + value]
};

}  // namespace

void MlaReference(const MlaArgs& args, Exec& exec) {
  exec.team.ParallelFor(args.shape.heads, 1, [&](int64_t begin, int64_t end) {
    for (const MlaSequence& s : args.sequences)
      for (int64_t h = begin; h < end; ++h) Head(args, s, h).Run();
  });
}

}  // namespace sluice
