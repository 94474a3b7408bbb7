#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/gqa/kv_layout.h"
#include "kernels/gqa/variants.h"

namespace sluice {
namespace {

// One head of one sequence, in double but for the rounding of the output.
class Head {
 public:
  Head(const GqaArgs& args, const GqaSequence& sequence, int64_t head)
      : args_(args),
        sequence_(sequence),
        head_(head),
        kv_head_(head / (args.shape.heads / args.shape.kv_heads)) {}

  void Run() {
    for (int64_t r = 0; r < sequence_.row_count; ++r)
      Attend(sequence_.row_begin + r, sequence_.position_begin + r);
  }

 private:
  double Element(int64_t position, bool value, int64_t d) const {
    const KvCache& cache = args_.cache;
    const int64_t head_dim = args_.shape.head_dim, bytes = HeadKeysBytes(cache.dtype, head_dim);
    const int64_t t = position % kKvPageTokens;
    const std::byte* at = cache.base +
                          sequence_.pages[position / kKvPageTokens] * cache.page_stride +
                          (2 * kv_head_ + value) * bytes;
    const int64_t index =
        value ? ValueIndex(cache.dtype, t, d, head_dim) : KeyIndex(cache.dtype, t, d);
    return cache.dtype == DType::kBf16 ? ToFloat(reinterpret_cast<const Bf16*>(at)[index])
                                       : reinterpret_cast<const float*>(at)[index];
  }

  double Score(int64_t row, int64_t position, int64_t j) const {
    double s = 0;
    for (int64_t d = 0; d < args_.shape.head_dim; ++d)
      s += args_.q(row, head_, d) * Element(j, false, d);
    s *= args_.scale;
    if (args_.softcap > 0) s = args_.softcap * std::tanh(s / args_.softcap);
    return s * Temperature(args_.temperature_length, position);
  }

  void Attend(int64_t row, int64_t position) const {
    std::vector<double> weights(position + 1);
    for (int64_t j = 0; j <= position; ++j) weights[j] = Score(row, position, j);
    const double top = *std::max_element(weights.begin(), weights.end());
    double sum = 0;
    for (double& w : weights) sum += w = std::exp(w - top);
    for (int64_t d = 0; d < args_.shape.head_dim; ++d) {
      double mixed = 0;
      for (int64_t j = 0; j <= position; ++j) mixed += weights[j] / sum * Element(j, true, d);
      const float o = static_cast<float>(mixed);
      args_.out(row, head_, d) = args_.rounding == Rounding::kBf16 ? RoundToBf16(o) : o;
    }
  }

  const GqaArgs& args_;
  const GqaSequence& sequence_;
  const int64_t head_, kv_head_;
};

}  // namespace

void GqaReference(const GqaArgs& args, Exec& exec) {
  exec.team.ParallelFor(args.shape.heads, 1, [&](int64_t begin, int64_t end) {
    for (const GqaSequence& s : args.sequences)
      for (int64_t h = begin; h < end; ++h) Head(args, s, h).Run();
  });
}

}  // namespace sluice
