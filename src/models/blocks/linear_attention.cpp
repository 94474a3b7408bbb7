#include "models/blocks/linear_attention.h"

#include <algorithm>
#include <cmath>

#include "base/trace.h"
#include "kernels/gla/gla.h"
#include "kernels/linear/linear.h"
#include "kernels/norm/norm.h"

namespace sluice {
namespace {

// ALiBi slopes: powers of 2^(-8/n) for n a power of two; otherwise those of the next lower power of
// two, then every second one of the next higher.
std::vector<double> Slopes(int64_t heads) {
  std::vector<double> out;
  if ((heads & (heads - 1)) == 0) {
    for (int64_t h = 0; h < heads; ++h)
      out.push_back(std::exp2(-8.0 * static_cast<double>(h + 1) / static_cast<double>(heads)));
    return out;
  }
  int64_t power = 1;
  while (power * 2 < heads) power *= 2;
  out = Slopes(power);
  const std::vector<double> finer = Slopes(2 * power);
  for (int64_t i = 0; static_cast<int64_t>(out.size()) < heads; i += 2) out.push_back(finer[i]);
  return out;
}

// silu in place, in fp32, for the rare checkpoints with linear_silu.
void SiluInPlace(View<float, 2> x, Exec& exec) {
  exec.team.ParallelFor(x.dim(0), 4, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t i = 0; i < x.dim(1); ++i) x(t, i) /= 1 + std::exp(-x(t, i));
  });
}

void TapState(const LinearAttentionCall& call, const GlaArgs& args) {
  if (args.sequences.size() != 1) return;
  const GlaSequence& sequence = args.sequences[0];
  const int64_t dim = call.config.head_dim, heads = call.config.heads;
  std::vector<float> state(static_cast<size_t>(heads * dim * dim));
  GlaExportState(args.decay, heads, dim, dim, args.value_dtype, sequence,
                 sequence.position_begin + sequence.row_count, state.data());
  (*call.batch.tap)("state", call.layer, {state.data(), {heads * dim, dim}});
}

}  // namespace

std::vector<float> LightningDecay(int64_t heads, int64_t layer, int64_t layers, int64_t offset) {
  std::vector<float> out;
  const double depth =
      static_cast<double>(layer - offset) / static_cast<double>(std::max<int64_t>(layers - 1, 1));
  for (const double slope : Slopes(heads))
    out.push_back(static_cast<float>(-slope * (1 - depth + 1e-5)));
  return out;
}

void AddLinearAttentionRows(const LinearAttentionConfig& c, const std::string& prefix,
                            LinearAttentionWeights* w, WeightPlaces& places) {
  const int64_t width = c.width();
  places.Matrix(prefix + "query_key_value.weight", 3 * width, c.hidden, &w->qkvg, 0, 4 * width);
  places.Matrix(prefix + "g_proj.weight", width, c.hidden, &w->qkvg, 3 * width, 4 * width);
  if (c.bias_allowed) {
    places.Bias(prefix + "query_key_value.bias", 3 * width, c.qkv_bias_required, &w->qkvg_bias, 0,
                4 * width);
    places.Bias(prefix + "dense.bias", c.hidden, c.dense_bias_required, &w->dense_bias, 0,
                c.hidden);
  }
  if (c.qk_norm) {
    places.Vector(prefix + "query_layernorm.weight", c.head_dim, &w->q_norm);
    places.Vector(prefix + "key_layernorm.weight", c.head_dim, &w->k_norm);
  }
  places.Vector(prefix + "g_norm.weight", width, &w->g_norm);
  places.Matrix(prefix + "dense.weight", c.hidden, width, &w->dense, 0, c.hidden);
}

void LinearAttention(const LinearAttentionCall& call, Exec& exec) {
  const LinearAttentionConfig& c = call.config;
  const LinearAttentionWeights& w = call.weights;
  const int64_t rows = call.x.dim(0), width = c.width();
  const bool bf16 = c.rounding == Rounding::kBf16;
  Arena::Scope scope(exec.scratch);

  View<float, 2> qkvg = exec.scratch.Matrix<float>(rows, 4 * width);
  {
    const trace::Span span("linear_attention.qkvg");
    Linear({.x = call.x,
            .weight = &w.qkvg,
            .bias = w.qkvg_bias.empty() ? nullptr : w.qkvg_bias.data(),
            .rounding = c.rounding,
            .bf16_inputs = bf16,
            .activations = c.activations,
            .y = qkvg},
           exec);
  }
  if (c.silu) SiluInPlace(qkvg.Columns(0, 3 * width), exec);
  const View<float, 3> q = qkvg.Columns(0, width).Split(c.head_dim);
  const View<float, 3> k = qkvg.Columns(width, width).Split(c.head_dim);
  const View<float, 3> v = qkvg.Columns(2 * width, width).Split(c.head_dim);
  {
    const trace::Span span("linear_attention.norm_rope");
    if (c.qk_norm) {
      RmsNorm({q, w.q_norm.data(), c.eps, Rounding::kNone, q}, exec);
      RmsNorm({k, w.k_norm.data(), c.eps, Rounding::kNone, k}, exec);
    }
    if (c.rope) {
      Rope({q, call.rope, RopeLayout::kNeox, Rounding::kNone}, exec);
      Rope({k, call.rope, RopeLayout::kNeox, Rounding::kNone}, exec);
    }
  }

  auto* sequences =
      exec.scratch.Allocate<GlaSequence>(static_cast<int64_t>(call.batch.sequences.size()));
  for (size_t i = 0; i < call.batch.sequences.size(); ++i) {
    const SequenceStep& s = call.batch.sequences[i];
    sequences[i] = {s.row_begin,
                    s.row_count,
                    s.position_begin,
                    call.pool.State(s.slot, call.recurrent_layer),
                    call.pool.Keys(s.slot, call.recurrent_layer),
                    call.pool.Values(s.slot, call.recurrent_layer)};
  }
  View<float, 2> mixed = exec.scratch.Matrix<float>(rows, width);
  const GlaArgs gla = {.q = q,
                       .k = k,
                       .v = v,
                       .decay = w.decay.data(),
                       .scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim)),
                       .value_dtype = c.value_dtype(),
                       .sequences = {sequences, call.batch.sequences.size()},
                       .out = mixed.Split(c.head_dim)};
  {
    const trace::Span span("linear_attention.gla");
    Gla(gla, exec);
  }
  if (call.batch.tap) {
    (*call.batch.tap)("gla_out", call.layer, mixed);
    TapState(call, gla);
  }
  {
    const trace::Span span("linear_attention.group_norm");
    GatedGroupNorm({mixed, qkvg.Columns(3 * width, width), w.g_norm.data(), c.norm_groups, c.eps,
                    c.rounding, mixed},
                   exec);
  }
  const trace::Span span("linear_attention.dense");
  Linear({.x = mixed,
          .weight = &w.dense,
          .bias = w.dense_bias.empty() ? nullptr : w.dense_bias.data(),
          .rounding = c.rounding,
          .bf16_inputs = bf16,
          .activations = c.activations,
          .y = call.delta},
         exec);
}

uint64_t LinearAttentionScratchBytes(const LinearAttentionConfig& c, int64_t rows) {
  return static_cast<uint64_t>(rows) * static_cast<uint64_t>(5 * c.width()) * sizeof(float) +
         static_cast<uint64_t>(rows) * sizeof(GlaSequence) + 3 * 64;
}

}  // namespace sluice
