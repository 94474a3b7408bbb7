#include "models/bailing_fields.h"

#include <fmt/format.h>

namespace sluice {
namespace {

void ReadRouting(FieldReader& read, ExpertFfnConfig& f) {
  f.n_group = static_cast<int>(read.Int("n_group", 0, kCountMax, 8));
  f.topk_group = static_cast<int>(read.Int("topk_group", 0, kCountMax, 4));
  const std::string score = read.String("score_function", "sigmoid");
  f.score = score == "softmax" ? ScoreFunction::kSoftmax : ScoreFunction::kSigmoid;
  if (score != "sigmoid" && score != "softmax")
    read.Contradiction("score_function", "this build supports only \"sigmoid\" and \"softmax\"");
  f.scaling = static_cast<float>(read.Double("routed_scaling_factor", -1e6, 1e6, 1.0));
  f.bias_required = read.Bool("moe_router_enable_expert_bias", false);
}

void CheckGroups(FieldReader& read, const ExpertFfnConfig& f) {
  if ((f.n_group == 0) != (f.topk_group == 0) || f.topk_group > f.n_group)
    read.Contradiction("topk_group", fmt::format("n_group is {}", f.n_group));
  if (f.n_group == 0) return;
  const int64_t kept = f.experts / f.n_group * f.topk_group;
  if (f.experts % f.n_group != 0)
    read.Contradiction("n_group", fmt::format("it must divide num_experts {}", f.experts));
  else if (f.top_k > kept)
    read.Contradiction("num_experts_per_tok",
                       fmt::format("the {} groups kept hold {} experts", f.topk_group, kept));
}

}  // namespace

DecoderDefaults BailingDefaults(std::string model_type) {
  return {.model_type = std::move(model_type),
          .max_position = 32768,
          .eps = 1e-6,
          .rope_base = 600000,
          .eos_token_id = 156892};
}

BailingFfn ReadBailingFfn(FieldReader& read, const DecoderConfig& c, MoeBackend backend) {
  BailingFfn f;
  f.names.router_bias = {"gate.expert_bias", "gate.e_score_correction_bias"};
  f.hidden = c.hidden;
  f.dense_intermediate = read.Int("intermediate_size", 1, kWidthMax, 5120);
  f.experts = read.Int("num_experts", 1, kCountMax, 256);
  f.top_k = read.Int("num_experts_per_tok", 1, 1024, 8);
  f.intermediate = read.Int("moe_intermediate_size", 1, kWidthMax, 512);
  f.shared_intermediate =
      read.Int("num_shared_experts", 0, kCountMax, 1) *
      read.Int("moe_shared_expert_intermediate_size", 1, kWidthMax, f.intermediate);
  if (f.shared_intermediate > kWidthMax)
    read.Contradiction("num_shared_experts", fmt::format("together {} wide, allowed are {}",
                                                         f.shared_intermediate, kWidthMax));
  ReadRouting(read, f);
  f.backend = backend;
  f.rounding = c.rounding;
  f.activations = c.activations;
  f.first_dense = read.Int("first_k_dense_replace", 0, kCountMax, 1);
  if (f.experts == 1) return f;
  CheckExpertCounts(read, {"num_experts", f.experts, f.top_k, c.layers});
  CheckGroups(read, f);
  return f;
}

}  // namespace sluice
