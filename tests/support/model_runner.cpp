#include "support/model_runner.h"

#include <algorithm>

#include "base/units.h"

namespace sluice {

ModelRunner::ModelRunner(const Model& model, int lanes, int64_t sequences, int64_t tokens,
                         int64_t rows)
    : model_(model),
      rows_max_(rows),
      team_(lanes),
      scratch_(std::move(*Buffer::Allocate(model.ScratchBytes(rows, rows, lanes), "scratch"))),
      kv_(std::move(
          *KvPagePool::Create(model.cache_layout(), sequences * CeilDiv(tokens, kPageTokens)))),
      recurrent_(std::move(*RecurrentPool::Create(model.cache_layout(), sequences))),
      exec_{team_, ThisMachine(), scratch_} {}

int ModelRunner::Start(int64_t prompt_length) {
  requests_.push_back({.slot = recurrent_.Allocate(), .prompt_length = prompt_length, .pages = {}});
  return static_cast<int>(requests_.size()) - 1;
}

void ModelRunner::Rewind(int sequence) { requests_[sequence].length = 0; }

std::vector<std::vector<float>> ModelRunner::Step(const std::vector<Piece>& pieces,
                                                  const DebugTap* tap) {
  std::vector<int32_t> tokens, positions, output_rows;
  std::vector<SequenceStep> steps;
  for (const Piece& piece : pieces) {
    Request& request = requests_[piece.sequence];
    const auto count = static_cast<int64_t>(piece.tokens.size());
    const int64_t end = request.length + count;
    while (static_cast<int64_t>(request.pages.size()) * kPageTokens < end)
      request.pages.push_back(kv_.Allocate());
    steps.push_back({.slot = request.slot,
                     .row_begin = static_cast<int64_t>(tokens.size()),
                     .row_count = count,
                     .position_begin = request.length,
                     .prompt_length = request.prompt_length,
                     .pages = request.pages.data()});
    for (const int32_t token : piece.tokens) {
      output_rows.push_back(static_cast<int32_t>(tokens.size()));
      positions.push_back(static_cast<int32_t>(request.length++));
      tokens.push_back(token);
    }
  }
  const auto rows = static_cast<int64_t>(tokens.size());
  CHECK_LE(rows, rows_max_);
  const int64_t hidden_size = model_.info().hidden_size, vocab = model_.info().vocab_size;
  std::vector<float> hidden(static_cast<size_t>(rows * hidden_size));
  std::vector<float> logits(static_cast<size_t>(rows * vocab));
  const View<float, 2> hidden_view(hidden.data(), {rows, hidden_size});
  model_.Forward({.tokens = tokens,
                  .positions = positions,
                  .sequences = steps,
                  .output_rows = output_rows,
                  .tap = tap},
                 {&kv_, &recurrent_}, hidden_view, exec_);
  model_.Logits(hidden_view, {logits.data(), {rows, vocab}}, exec_);
  std::vector<std::vector<float>> out;
  for (int64_t t = 0; t < rows; ++t)
    out.emplace_back(logits.begin() + t * vocab, logits.begin() + (t + 1) * vocab);
  return out;
}

std::vector<std::vector<float>> ModelRunner::Feed(int sequence, std::span<const int32_t> tokens,
                                                  int64_t chunk) {
  std::vector<std::vector<float>> out;
  for (size_t at = 0; at < tokens.size(); at += static_cast<size_t>(chunk)) {
    const size_t count = std::min<size_t>(static_cast<size_t>(chunk), tokens.size() - at);
    const auto part = tokens.subspan(at, count);
    auto rows = Step({{sequence, {part.begin(), part.end()}}});
    std::move(rows.begin(), rows.end(), std::back_inserter(out));
  }
  return out;
}

std::vector<int32_t> ModelRunner::Greedy(std::span<const int32_t> prompt, int count,
                                         std::vector<std::vector<float>>* logits) {
  const int sequence = Start(static_cast<int64_t>(prompt.size()));
  std::vector<float> row = Feed(sequence, prompt, rows_max_).back();
  std::vector<int32_t> out;
  for (int i = 0; i < count; ++i) {
    out.push_back(ArgMax(row));
    if (logits) logits->push_back(row);
    row = Step({{sequence, {out.back()}}})[0];
  }
  return out;
}

int32_t ArgMax(const std::vector<float>& logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace sluice
