#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/moe/route_variants.h"

namespace sluice {

void RouteReference(const RouteArgs& args, Exec&) {
  const int64_t experts = args.gate.dim(0), hidden = args.gate.dim(1);
  std::vector<double> logits(experts);
  std::vector<float> p(experts), scratch(3 * experts);
  for (int64_t t = 0; t < args.x.dim(0); ++t) {
    for (int64_t e = 0; e < experts; ++e) {
      logits[e] = 0;
      for (int64_t i = 0; i < hidden; ++i) logits[e] += double{args.x(t, i)} * args.gate(e, i);
      if (args.softcap > 0) logits[e] = args.softcap * std::tanh(logits[e] / args.softcap);
    }
    double sum = 0;
    const double largest = *std::max_element(logits.begin(), logits.end());
    for (double logit : logits) sum += std::exp(logit - largest);
    for (int64_t e = 0; e < experts; ++e)
      p[e] = static_cast<float>(args.score == ScoreFunction::kSigmoid
                                    ? 1 / (1 + std::exp(-logits[e]))
                                    : std::exp(logits[e] - largest) / sum);
    ChooseExperts(args, t, p.data(), scratch.data());
  }
}

}  // namespace sluice
