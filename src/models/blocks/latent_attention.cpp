#include "models/blocks/latent_attention.h"

#include "base/trace.h"
#include "kernels/linear/linear.h"
#include "kernels/norm/norm.h"

namespace sluice {

void AddLatentAttentionRows(const LatentAttentionConfig& c, const std::string& prefix,
                            LatentAttentionWeights* w, WeightPlaces& places) {
  const int64_t first = c.first_width(), both = first + c.key_width();
  const bool latent_query = c.query_latent > 0;
  places.Matrix(prefix + (latent_query ? "q_a_proj.weight" : "q_proj.weight"), first, c.hidden,
                &w->first, 0, both);
  places.Matrix(prefix + "kv_a_proj_with_mqa.weight", c.key_width(), c.hidden, &w->first, first,
                both);
  if (latent_query) {
    places.Vector(prefix + "q_a_layernorm.weight", c.query_latent, &w->q_norm);
    places.Matrix(prefix + "q_b_proj.weight", c.query_width(), c.query_latent, &w->query, 0,
                  c.query_width());
  }
  places.Vector(prefix + "kv_a_layernorm.weight", c.shape.latent, &w->kv_norm);
  places.LatentExpansion(prefix + "kv_b_proj.weight", c.shape, &w->expand);
  places.Matrix(prefix + "dense.weight", c.hidden, c.shape.heads * c.shape.value, &w->dense, 0,
                c.hidden, {prefix + "o_proj.weight"});
  if (c.bias_allowed) {
    if (latent_query) places.Bias(prefix + "q_a_proj.bias", first, false, &w->first_bias, 0, both);
    places.Bias(prefix + "kv_a_proj_with_mqa.bias", c.key_width(), false, &w->first_bias, first,
                both);
    places.Bias(prefix + "dense.bias", c.hidden, false, &w->dense_bias, 0, c.hidden);
  }
}

void LatentAttention(const LatentAttentionCall& call, Exec& exec) {
  const LatentAttentionConfig& c = call.config;
  const LatentAttentionWeights& w = call.weights;
  const int64_t rows = call.x.dim(0), first_width = c.first_width();
  const bool bf16 = c.rounding == Rounding::kBf16;
  Arena::Scope scope(exec.scratch);

  View<float, 2> first = exec.scratch.Matrix<float>(rows, first_width + c.key_width());
  View<float, 2> query = first.Columns(0, first_width);
  const View<float, 2> latent = first.Columns(first_width, c.shape.latent);
  const View<float, 2> key = first.Columns(first_width + c.shape.latent, c.shape.rope);
  {
    const trace::Span span("latent_attention.project");
    Linear({.x = call.x,
            .weight = &w.first,
            .bias = w.first_bias.empty() ? nullptr : w.first_bias.data(),
            .rounding = c.rounding,
            .bf16_inputs = bf16,
            .activations = c.activations,
            .y = first},
           exec);
    if (c.query_latent > 0) {
      const View<float, 3> normed = query.Split(first_width);
      RmsNorm({normed, w.q_norm.data(), c.latent_eps, c.rounding, normed}, exec);
      View<float, 2> wide = exec.scratch.Matrix<float>(rows, c.query_width());
      Linear({.x = query,
              .weight = &w.query,
              .rounding = c.rounding,
              .bf16_inputs = bf16,
              .activations = c.activations,
              .y = wide},
             exec);
      query = wide;
    }
    const View<float, 3> normed = latent.Split(c.shape.latent);
    RmsNorm({normed, w.kv_norm.data(), c.latent_eps, c.rounding, normed}, exec);
  }
  const View<float, 3> heads = query.Split(c.shape.nope + c.shape.rope);
  Rope({heads.Columns(c.shape.nope, c.shape.rope), call.rope, c.rope_layout, c.rounding}, exec);
  Rope({key.Split(c.shape.rope), call.rope, c.rope_layout, c.rounding}, exec);
  if (call.batch.tap) {
    (*call.batch.tap)("latent", call.layer, latent);
    (*call.batch.tap)("k_rope", call.layer, key);
  }

  const auto count = static_cast<int64_t>(call.batch.sequences.size());
  auto* sequences = exec.scratch.Allocate<MlaSequence>(count);
  for (int64_t i = 0; i < count; ++i) {
    const SequenceStep& s = call.batch.sequences[i];
    sequences[i] = {s.row_begin, s.row_count, s.position_begin, s.prompt_length, s.pages};
  }
  const std::span<const MlaSequence> all(sequences, static_cast<size_t>(count));
  const LatentCache cache = {call.pool.LayerBase(call.kv_layer), call.pool.page_stride(),
                             c.cache_dtype()};
  View<float, 2> mixed = exec.scratch.Matrix<float>(rows, c.shape.heads * c.shape.value);
  {
    const trace::Span span("latent_attention.attend");
    MlaStore({latent, key, cache, all}, exec);
    Mla({.shape = c.shape,
         .scale = c.scale,
         .q = heads,
         .weights = &w.expand,
         .cache = cache,
         .sequences = all,
         .rounding = c.rounding,
         .bf16_inputs = bf16,
         .out = mixed.Split(c.shape.value)},
        exec);
  }
  const trace::Span span("latent_attention.dense");
  Linear({.x = mixed,
          .weight = &w.dense,
          .bias = w.dense_bias.empty() ? nullptr : w.dense_bias.data(),
          .rounding = c.rounding,
          .bf16_inputs = bf16,
          .activations = c.activations,
          .y = call.delta},
         exec);
}

uint64_t LatentAttentionScratchBytes(const LatentAttentionConfig& c, int64_t rows, int lanes) {
  const int64_t floats =
      rows * (c.first_width() + c.key_width() + c.query_width() + c.shape.heads * c.shape.value);
  return static_cast<uint64_t>(floats) * sizeof(float) +
         static_cast<uint64_t>(rows) * sizeof(MlaSequence) + 5 * 64 +
         MlaScratchBytes(c.shape, rows, lanes);
}

}  // namespace sluice
