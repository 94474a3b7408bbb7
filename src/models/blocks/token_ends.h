// The two ends of a decoder: token ids become rows, the last rows become logits.
#pragma once

#include <string>
#include <vector>

#include "formats/packed_matrix.h"
#include "models/model.h"
#include "models/weight_places.h"

namespace sluice {

struct TokenEndsConfig {
  // What the checkpoint calls the tensors.
  std::string embedding_name = "model.embed_tokens.weight";
  std::string norm_name = "model.norm.weight";
  std::string head_name = "lm_head.weight";

  int64_t vocab_size, hidden;
  bool tied;  // the head is the embedding; the checkpoint then has no head
  float eps;
  float embedding_multiplier = 1;  // rows = round(embedding * multiplier)
  float logit_multiplier = 1;      // logits = multiplier * (head product), in fp32 ...
  float logit_softcap = 0;         // ... then softcap * tanh(logits / softcap); 0: none
  Rounding rounding;
};

struct TokenEndsWeights {
  Buffer embedding;         // [vocab_size, hidden] bf16
  std::vector<float> norm;  // [hidden], before the head
  PackedMatrix head;        // [vocab_size, hidden]
};

/// The embedding's row comes first in a table and the others last, so that tables read like the
/// model: add the layers' rows between the two.
void AddEmbeddingRow(const TokenEndsConfig& config, TokenEndsWeights* weights,
                     WeightPlaces& places);
void AddHeadRows(const TokenEndsConfig& config, TokenEndsWeights* weights, WeightPlaces& places);

/// rows [tokens, hidden].
void EmbedTokens(const TokenEndsConfig& config, const TokenEndsWeights& weights,
                 std::span<const int32_t> tokens, View<float, 2> rows, Exec& exec);

/// hidden [rows, hidden], after the final norm; logits [rows, vocab_size], never rounded.
void TokenLogits(const TokenEndsConfig& config, const TokenEndsWeights& weights,
                 View<const float, 2> hidden, View<float, 2> logits, Exec& exec);

}  // namespace sluice
