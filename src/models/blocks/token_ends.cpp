#include "models/blocks/token_ends.h"

#include <cmath>

#include "base/trace.h"
#include "kernels/embed/embed.h"
#include "kernels/linear/linear.h"
#include "models/blocks/each_element.h"

namespace sluice {

void AddEmbeddingRow(const TokenEndsConfig& c, TokenEndsWeights* w, WeightPlaces& places) {
  const int64_t vocab = c.vocab_size, hidden = c.hidden;
  const auto bytes = static_cast<uint64_t>(vocab * hidden) * sizeof(Bf16);
  const bool tied = c.tied;
  places.Before([=]() -> Status {
    TRY(w->embedding, Buffer::Allocate(bytes, "embedding"));
    if (!tied) return {};
    TRY(w->head, PackedMatrix::Allocate(vocab, hidden));
    return {};
  });
  places.Row({.name = c.embedding_name,
              .aliases = {},
              .shape = {vocab, hidden},
              .dummy = DummyInit::Normal(1),
              .place =
                  [=](const TensorData& data) {
                    auto* table = reinterpret_cast<Bf16*>(w->embedding.data());
                    data.ToBf16(0, vocab * hidden, table);
                    if (tied) w->head.Pack(0, View<const Bf16, 2>(table, {vocab, hidden}));
                    return Status();
                  }},
             tied ? 2 * bytes : bytes);
}

void AddHeadRows(const TokenEndsConfig& c, TokenEndsWeights* w, WeightPlaces& places) {
  places.Vector(c.norm_name, c.hidden, &w->norm);
  if (!c.tied) places.HeadMatrix(c.head_name, c.vocab_size, c.hidden, &w->head);
}

void EmbedTokens(const TokenEndsConfig& c, const TokenEndsWeights& w,
                 std::span<const int32_t> tokens, View<float, 2> rows, Exec& exec) {
  const auto* table = reinterpret_cast<const Bf16*>(w.embedding.data());
  Embed(tokens, {table, {c.vocab_size, c.hidden}}, rows, exec);
  if (c.embedding_multiplier == 1) return;
  EachElement(
      rows, 4,
      [&](float x) {
        const float scaled = x * c.embedding_multiplier;
        return c.rounding == Rounding::kBf16 ? RoundToBf16(scaled) : scaled;
      },
      exec);
}

void TokenLogits(const TokenEndsConfig& c, const TokenEndsWeights& w, View<const float, 2> hidden,
                 View<float, 2> logits, Exec& exec) {
  const trace::Span span("lm_head");
  Linear({.x = hidden,
          .weight = &w.head,
          .rounding = Rounding::kNone,
          .bf16_inputs = c.rounding == Rounding::kBf16,
          .y = logits},
         exec);
  if (c.logit_softcap > 0)
    EachElement(
        logits, 64,
        [&](float x) {
          return c.logit_softcap * std::tanh(x * c.logit_multiplier / c.logit_softcap);
        },
        exec);
  else if (c.logit_multiplier != 1)
    EachElement(
        logits, 4, [&](float x) { return x * c.logit_multiplier; }, exec);
}

}  // namespace sluice
