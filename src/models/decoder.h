// What every family's class has around its layers: the weight table, the description, the token
// ends and the residual stream. A family adds its layers' rows and the forward pass through them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/blocks/token_ends.h"
#include "models/config_fields.h"
#include "models/model.h"
#include "models/weight_places.h"

namespace sluice {

class Decoder : public Model {
 public:
  Decoder(const Decoder&) = delete;

  const ModelInfo& info() const final { return info_; }
  const CacheLayout& cache_layout() const final { return cache_; }
  void Logits(View<const float, 2> hidden, View<float, 2> logits, Exec& exec) const final;

  /// The weight table and the allocations before it. Valid while this object lives.
  WeightPlaces& places() { return places_; }
  /// WeightPlaces::ChooseFormats, and what follows from it for info().
  std::vector<std::string> ChooseFormats(const WeightSource& source,
                                         const std::optional<QuantizationConfig>& config,
                                         WeightLayout floats);
  /// Tensors that checkpoints carry and we leave aside: rope tables, a head beside tied embeddings.
  virtual bool Ignores(std::string_view tensor) const;

 protected:
  /// Token ends as config.json says.
  static TokenEndsConfig TokenEndsOf(const DecoderConfig& config,
                                     std::string embedding_name = "model.embed_tokens.weight");

  explicit Decoder(TokenEndsConfig ends) : ends_(std::move(ends)) {}

  /// The rows before and after those of the layers.
  void BeginPlaces() { AddEmbeddingRow(ends_, &end_weights_, places_); }
  void EndPlaces() { AddHeadRows(ends_, &end_weights_, places_); }

  /// Once the table is whole. `idle_parameters`: of experts that a token does not touch, all
  /// layers together.
  void Describe(std::string_view architecture, const DecoderConfig& config,
                const CacheLayout& cache, uint64_t idle_parameters);

  /// The rows of a step between two blocks, in scratch memory: each [rows, hidden].
  struct Stream {
    View<float, 2> residual;
    View<float, 2> normed;  // what the next block reads
    View<float, 2> delta;   // what it adds
  };
  /// Embeds the batch and norms it for the first block. Taps "embed".
  Stream Begin(const Batch& batch, const std::vector<float>& first_norm, Exec& exec) const;
  /// Adds `delta` to the residual and norms the sum for the next block.
  void AddAndNorm(const Stream& stream, const std::vector<float>& norm, Exec& exec) const;
  /// The same with `delta` normed by `delta_norm` before it is added.
  void NormAddAndNorm(const Stream& stream, const std::vector<float>& delta_norm,
                      const std::vector<float>& norm, Exec& exec) const;
  /// The normed rows whose logits are wanted. Taps "final_norm".
  void End(const Batch& batch, const Stream& stream, View<float, 2> hidden, Exec& exec) const;
  uint64_t StreamBytes(int64_t rows) const;

  const std::vector<float>& final_norm() const { return end_weights_.norm; }

  WeightPlaces places_;

 private:
  const TokenEndsConfig ends_;
  TokenEndsWeights end_weights_;
  ModelInfo info_;
  CacheLayout cache_;
};

/// Calls the batch's tap, if it has one.
void Tap(const Batch& batch, std::string_view name, int64_t layer, View<const float, 2> rows);

/// The layer that "model.layers.17.mlp.gate.weight" belongs to, or -1.
int64_t LayerOfTensor(std::string_view tensor);

}  // namespace sluice
