#include "models/blocks/grouped_attention.h"

#include "base/trace.h"
#include "kernels/linear/linear.h"
#include "kernels/norm/norm.h"

namespace sluice {

void AddGroupedAttentionRows(const GroupedAttentionConfig& c, const GroupedAttentionNames& names,
                             const std::string& prefix, GroupedAttentionWeights* w,
                             WeightPlaces& places) {
  const int64_t query = c.query_width(), key = c.key_width(), both = c.both_widths();
  const auto part = [&](const std::string& name, int64_t rows, int64_t begin) {
    places.Matrix(prefix + name + ".weight", rows, c.hidden, &w->qkv, begin, both);
    if (c.qkv_bias) places.Bias(prefix + name + ".bias", rows, true, &w->qkv_bias, begin, both);
  };
  if (!names.fused.empty()) {
    part(names.fused, both, 0);
  } else {
    part(names.q, query, 0);
    part(names.k, key, query);
    part(names.v, key, query + key);
  }
  if (c.qk_norm) {
    places.Vector(prefix + names.q_norm + ".weight", c.shape.head_dim, &w->q_norm);
    places.Vector(prefix + names.k_norm + ".weight", c.shape.head_dim, &w->k_norm);
  }
  places.Matrix(prefix + names.dense + ".weight", c.hidden, query, &w->dense, 0, c.hidden);
  if (c.dense_bias)
    places.Bias(prefix + names.dense + ".bias", c.hidden, true, &w->dense_bias, 0, c.hidden);
}

namespace {

// q | k | v of every row, normed and rotated.
struct Projected {
  View<float, 2> both;
  View<float, 3> q, k, v;  // [rows, heads or kv_heads, head_dim], parts of `both`
};

Projected Project(const GroupedAttentionCall& call, Exec& exec) {
  const GroupedAttentionConfig& c = call.config;
  const GroupedAttentionWeights& w = call.weights;
  const trace::Span span("grouped_attention.project");
  Projected p;
  p.both = exec.scratch.Matrix<float>(call.x.dim(0), c.both_widths());
  Linear({.x = call.x,
          .weight = &w.qkv,
          .bias = w.qkv_bias.empty() ? nullptr : w.qkv_bias.data(),
          .rounding = c.rounding,
          .bf16_inputs = c.rounding == Rounding::kBf16,
          .activations = c.activations,
          .y = p.both},
         exec);
  p.q = p.both.Columns(0, c.query_width()).Split(c.shape.head_dim);
  p.k = p.both.Columns(c.query_width(), c.key_width()).Split(c.shape.head_dim);
  p.v = p.both.Columns(c.query_width() + c.key_width(), c.key_width()).Split(c.shape.head_dim);
  if (c.qk_norm) {
    RmsNorm({p.q, w.q_norm.data(), c.eps, c.rounding, p.q}, exec);
    RmsNorm({p.k, w.k_norm.data(), c.eps, c.rounding, p.k}, exec);
  }
  Rope({p.q, call.rope, RopeLayout::kNeox, c.rounding}, exec);
  Rope({p.k, call.rope, RopeLayout::kNeox, c.rounding}, exec);
  return p;
}

}  // namespace

void GroupedAttention(const GroupedAttentionCall& call, Exec& exec) {
  const GroupedAttentionConfig& c = call.config;
  const bool bf16 = c.rounding == Rounding::kBf16;
  Arena::Scope scope(exec.scratch);

  const Projected p = Project(call, exec);
  if (call.batch.tap) {
    (*call.batch.tap)("k", call.layer, p.both.Columns(c.query_width(), c.key_width()));
    (*call.batch.tap)("v", call.layer,
                      p.both.Columns(c.query_width() + c.key_width(), c.key_width()));
  }

  const auto count = static_cast<int64_t>(call.batch.sequences.size());
  auto* sequences = exec.scratch.Allocate<GqaSequence>(count);
  for (int64_t i = 0; i < count; ++i) {
    const SequenceStep& s = call.batch.sequences[i];
    sequences[i] = {s.row_begin, s.row_count, s.position_begin, s.pages};
  }
  const std::span<const GqaSequence> all(sequences, static_cast<size_t>(count));
  const KvCache cache = {call.pool.LayerBase(call.kv_layer), call.pool.page_stride(),
                         c.cache_dtype()};
  const View<float, 2> mixed = exec.scratch.Matrix<float>(call.x.dim(0), c.query_width());
  {
    const trace::Span span("grouped_attention.attend");
    GqaStore({p.k, p.v, c.shape, cache, all}, exec);
    Gqa({.shape = c.shape,
         .scale = c.scale,
         .softcap = c.softcap,
         .temperature_length = c.temperature_length,
         .q = p.q,
         .cache = cache,
         .sequences = all,
         .rounding = c.rounding,
         .bf16_inputs = bf16,
         .out = mixed.Split(c.shape.head_dim)},
        exec);
  }
  const trace::Span span("grouped_attention.dense");
  Linear({.x = mixed,
          .weight = &call.weights.dense,
          .bias = call.weights.dense_bias.empty() ? nullptr : call.weights.dense_bias.data(),
          .rounding = c.rounding,
          .bf16_inputs = bf16,
          .activations = c.activations,
          .y = call.delta},
         exec);
}

uint64_t GroupedAttentionScratchBytes(const GroupedAttentionConfig& c, int64_t rows, int lanes) {
  const int64_t floats = rows * (c.both_widths() + c.query_width());
  return static_cast<uint64_t>(floats) * sizeof(float) +
         static_cast<uint64_t>(rows) * sizeof(GqaSequence) + 3 * 64 +
         GqaScratchBytes(c.shape, rows, lanes);
}

}  // namespace sluice
