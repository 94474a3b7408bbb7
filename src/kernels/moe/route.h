// Choosing experts: scores, group-limited selection, weights.
#pragma once

#include "tensor/exec.h"
#include "tensor/view.h"

namespace sluice {

enum class ScoreFunction { kSigmoid, kSoftmax };

/// Per token, all in fp32: p = score(l) with l = x gate^T, or softcap tanh(x gate^T / softcap)
/// where softcap > 0; selection by c = p + bias; experts lie in n_group groups of equal size, the
/// topk_group groups with the largest group score stay (group score: sum of the two largest c with
/// a bias; without one the maximum, and masked entries then count as 0, not as -inf); the top_k
/// largest remaining c are chosen, ties to the lower index; weights are p of the chosen, divided by
/// their sum if `renormalize`, times `scaling`. n_group = 0: no groups. The softmax is over all
/// experts. Sources: DeepSeek-V3 (arXiv 2412.19437) as used by Ling 2.x; Qwen3-MoE (softmax);
/// Grok-2 (softcap, softmax, not renormalised).
struct RouteArgs {
  View<const float, 2> x;     // [tokens, hidden]
  View<const float, 2> gate;  // [experts, hidden], fp32
  const float* bias;          // [experts] or nullptr: selection only, never in the weights
  float softcap = 0;          // 0: none
  ScoreFunction score = ScoreFunction::kSigmoid;
  int n_group = 0;
  int topk_group = 0;
  bool renormalize = true;
  float scaling = 1;
  View<int32_t, 2> ids;    // out: [tokens, top_k], in descending order of c
  View<float, 2> weights;  // out: [tokens, top_k]
  View<float, 2> scores;   // out: [tokens, experts] p without bias; data() may be nullptr
};

/// A token's result does not depend on the other tokens. Not-a-number scores select arbitrary but
/// valid, distinct ids. At most 65,536 experts. Errors: none; shapes are CHECKed.
void Route(const RouteArgs& args, Exec& exec);

std::vector<Variant<RouteArgs>> RouteVariants();

}  // namespace sluice
