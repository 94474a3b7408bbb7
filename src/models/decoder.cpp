#include "models/decoder.h"

#include <charconv>

#include "kernels/embed/embed.h"
#include "kernels/norm/norm.h"

namespace sluice {

TokenEndsConfig Decoder::TokenEndsOf(const DecoderConfig& c, std::string embedding_name) {
  TokenEndsConfig out;
  out.embedding_name = std::move(embedding_name);
  out.vocab_size = c.vocab_size;
  out.hidden = c.hidden;
  out.tied = c.tied;
  out.eps = c.eps;
  out.rounding = c.rounding;
  return out;
}

std::vector<std::string> Decoder::ChooseFormats(const WeightSource& source,
                                                const std::optional<QuantizationConfig>& config,
                                                WeightLayout floats) {
  std::vector<std::string> differences = places_.ChooseFormats(source, config, floats);
  info_.weight_bytes = places_.bytes();
  return differences;
}

bool Decoder::Ignores(std::string_view tensor) const {
  return tensor.find("rotary_emb.inv_freq") != tensor.npos ||
         (ends_.tied && tensor == ends_.head_name);
}

void Decoder::Describe(std::string_view architecture, const DecoderConfig& c,
                       const CacheLayout& cache, uint64_t idle_parameters) {
  cache_ = cache;
  info_ = {.architecture = std::string(architecture),
           .model_type = c.model_type,
           .vocab_size = c.vocab_size,
           .hidden_size = c.hidden,
           .layers = c.layers,
           .linear_layers = cache.recurrent_layers,
           .max_position = c.max_position,
           .weight_bytes = places_.bytes(),
           .parameters = places_.parameters(),
           .active_parameters = places_.parameters() - idle_parameters,
           .eos_token_ids = c.eos_token_ids,
           .rounding = c.rounding};
}

Decoder::Stream Decoder::Begin(const Batch& batch, const std::vector<float>& first_norm,
                               Exec& exec) const {
  const auto rows = static_cast<int64_t>(batch.tokens.size());
  const Stream out = {exec.scratch.Matrix<float>(rows, ends_.hidden),
                      exec.scratch.Matrix<float>(rows, ends_.hidden),
                      exec.scratch.Matrix<float>(rows, ends_.hidden)};
  EmbedTokens(ends_, end_weights_, batch.tokens, out.residual, exec);
  Tap(batch, "embed", -1, out.residual);
  RmsNorm({out.residual.Split(ends_.hidden), first_norm.data(), ends_.eps, ends_.rounding,
           out.normed.Split(ends_.hidden)},
          exec);
  return out;
}

void Decoder::AddAndNorm(const Stream& stream, const std::vector<float>& norm, Exec& exec) const {
  AddRmsNorm({stream.residual, stream.delta, norm.data(), ends_.eps, ends_.rounding, stream.normed},
             exec);
}

void Decoder::NormAddAndNorm(const Stream& stream, const std::vector<float>& delta_norm,
                             const std::vector<float>& norm, Exec& exec) const {
  SandwichNorm({stream.residual, stream.delta, delta_norm.data(), norm.data(), ends_.eps,
                ends_.rounding, stream.normed},
               exec);
}

void Decoder::End(const Batch& batch, const Stream& stream, View<float, 2> hidden,
                  Exec& exec) const {
  Tap(batch, "final_norm", -1, stream.normed);
  GatherRows(stream.normed, batch.output_rows, hidden, exec);
}

uint64_t Decoder::StreamBytes(int64_t rows) const {
  return static_cast<uint64_t>(rows * 3 * ends_.hidden) * sizeof(float) + 3 * 64;
}

void Decoder::Logits(View<const float, 2> hidden, View<float, 2> logits, Exec& exec) const {
  TokenLogits(ends_, end_weights_, hidden, logits, exec);
}

void Tap(const Batch& batch, std::string_view name, int64_t layer, View<const float, 2> rows) {
  if (batch.tap) (*batch.tap)(name, static_cast<int>(layer), rows);
}

int64_t LayerOfTensor(std::string_view tensor) {
  constexpr std::string_view kPrefix = "model.layers.";
  if (!tensor.starts_with(kPrefix)) return -1;
  int64_t layer = -1;
  std::from_chars(tensor.data() + kPrefix.size(), tensor.data() + tensor.size(), layer);
  return layer;
}

}  // namespace sluice
