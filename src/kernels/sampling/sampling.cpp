#include "kernels/sampling/sampling.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "base/random.h"
#include "base/units.h"
#include "kernels/sampling/row_math.h"
#include "kernels/sampling/select.h"

namespace sluice {
namespace {

using sampling::Threshold;

constexpr double kGreedyBelow = 1e-6;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// One lane's memory for the row it works on.
struct LaneScratch {
  float* weights;      // [vocab]
  float* raw;          // [vocab]
  int32_t* ids;        // [vocab]
  double* block_sums;  // [vocab / kSumBlock, rounded up]
};

LaneScratch AllocateLane(Arena& arena, int64_t vocab) {
  return {arena.Allocate<float>(vocab), arena.Allocate<float>(vocab),
          arena.Allocate<int32_t>(vocab),
          arena.Allocate<double>(CeilDiv(vocab, sampling::kSumBlock))};
}

// Extreme parameters may push a logit out of range; that is no fault of the model.
float Clamped(float x) {
  constexpr float kMax = std::numeric_limits<float>::max();
  return std::clamp(x, -kMax, kMax);
}

bool ChangesLogits(const SamplingRow& row) {
  const SamplingParams& p = *row.params;
  return p.repetition_penalty != 1 || p.frequency_penalty != 0 || p.presence_penalty != 0 ||
         !p.logit_bias.empty() || !row.masked.empty();
}

void ApplyPenalties(const SamplingParams& p, const TokenHistory& history, float* logits) {
  const float repetition = static_cast<float>(p.repetition_penalty);
  const float frequency = static_cast<float>(p.frequency_penalty);
  const float presence = static_cast<float>(p.presence_penalty);
  for (const TokenHistory::Entry& entry : history.entries()) {
    float& l = logits[entry.id];
    if (repetition != 1) l = Clamped(l > 0 ? l / repetition : l * repetition);
    if (entry.generated > 0)
      l = Clamped(l - frequency * static_cast<float>(entry.generated) - presence);
  }
}

void ChangeLogits(const SamplingRow& row) {
  const SamplingParams& p = *row.params;
  if (row.history != nullptr) ApplyPenalties(p, *row.history, row.logits);
  for (const auto& [id, bias] : p.logit_bias) row.logits[id] = Clamped(row.logits[id] + bias);
  for (const int32_t id : row.masked) row.logits[id] = kMinusInfinity;
}

bool IsGreedy(const SamplingParams& p) { return p.temperature < kGreedyBelow || p.top_k == 1; }

// The distribution whose log-probabilities are reported: exp((x - max) * scale) / sum.
struct Softmax {
  const float* x;
  float max;
  float scale;
  double log_sum;

  float Logprob(int64_t id) const {
    if (x[id] == kMinusInfinity) return std::numeric_limits<float>::lowest();
    const double value = (double{x[id]} - double{max}) * double{scale} - log_sum;
    return static_cast<float>(std::max(value, double{std::numeric_limits<float>::lowest()}));
  }
};

Softmax MakeSoftmax(const float* x, int64_t vocab, float max, float scale) {
  return {x, max, scale, std::log(sampling::ExpSum(x, vocab, max, scale, nullptr))};
}

void Report(const Softmax& softmax, const LogprobOptions& wanted, int32_t id, int64_t vocab,
            int32_t* ids, PositionLogprobs& out) {
  out.id = id;
  out.logprob = softmax.Logprob(id);
  const int64_t count = sampling::BestIds(softmax.x, vocab, wanted.top, ids);
  out.top.clear();
  out.top.reserve(count);
  for (int64_t i = 0; i < count; ++i) out.top.push_back({ids[i], softmax.Logprob(ids[i])});
  out.asked.clear();
  out.asked.reserve(wanted.token_ids.size());
  for (const int32_t asked : wanted.token_ids) out.asked.push_back({asked, softmax.Logprob(asked)});
}

// The id where the distribution function of `weights` passes `uniform`.
int32_t Invert(const float* weights, const double* block_sums, double total, double uniform,
               int64_t vocab) {
  const double target = uniform * total;
  double before = 0;
  int64_t last = 0;
  for (int64_t begin = 0; begin < vocab; begin += sampling::kSumBlock) {
    const double block = block_sums[begin / sampling::kSumBlock];
    if (block <= 0) continue;
    const int64_t end = std::min(vocab, begin + sampling::kSumBlock);
    const bool here = before + block > target;
    double sum = before;
    for (int64_t id = begin; id < end; ++id) {
      if (weights[id] <= 0) continue;
      last = id;
      if (here && (sum += weights[id]) > target) return static_cast<int32_t>(id);
    }
    if (here) break;  // the block's own sum was rounded up: its last id
    before += block;
  }
  return static_cast<int32_t>(last);
}

int32_t Draw(const SamplingRow& row, int64_t vocab, float max, float scale,
             const LaneScratch& scratch) {
  const SamplingParams& p = *row.params;
  const float* x = row.logits;
  double total = sampling::ExpSum(x, vocab, max, scale, scratch.weights);
  Threshold keep = sampling::kKeepAll;
  if (p.top_k > 0 && p.top_k < vocab)
    keep =
        sampling::SelectPrefix(x, nullptr, vocab, keep, static_cast<double>(p.top_k), scratch.ids);
  if (p.top_p < 1) {
    if (p.top_k > 0)
      total = sampling::KeepAndSum(x, scratch.weights, vocab, keep, 0, scratch.block_sums);
    keep = sampling::SelectPrefix(x, scratch.weights, vocab, keep, p.top_p * total, scratch.ids);
  }
  total = sampling::KeepAndSum(x, scratch.weights, vocab, keep, static_cast<float>(p.min_p),
                               scratch.block_sums);
  return Invert(scratch.weights, scratch.block_sums, total,
                SamplingUniform(row.seed, p.choice, row.position), vocab);
}

// `max` in these two is the largest logit as the model gave them.
void ScoreTarget(SamplingRow& row, int64_t vocab, float max, const LaneScratch& scratch) {
  row.token = row.target;
  if (row.logprobs == nullptr) return;
  Report(MakeSoftmax(row.logits, vocab, max, 1), *row.logprobs, row.target, vocab, scratch.ids,
         *row.report);
}

void SampleRow(SamplingRow& row, int64_t vocab, float max, const LaneScratch& scratch) {
  const SamplingParams& p = *row.params;
  const bool raw_report = row.logprobs != nullptr && row.logprobs->raw;
  const float* raw = row.logits;
  const float raw_max = max;
  if (ChangesLogits(row)) {
    if (raw_report) {
      std::copy_n(row.logits, vocab, scratch.raw);
      raw = scratch.raw;
    }
    ChangeLogits(row);
    max = sampling::Max(row.logits, vocab);
  }
  if (max == kMinusInfinity) {
    row.fault = RowFault::kNothingLeft;
    return;
  }
  const float scale = p.temperature < kGreedyBelow ? 1.0f : static_cast<float>(1.0 / p.temperature);
  row.token = IsGreedy(p) ? static_cast<int32_t>(sampling::FindFirst(row.logits, vocab, max))
                          : Draw(row, vocab, max, scale, scratch);
  if (row.logprobs == nullptr) return;
  const Softmax softmax =
      raw_report ? MakeSoftmax(raw, vocab, raw_max, 1) : MakeSoftmax(row.logits, vocab, max, scale);
  Report(softmax, *row.logprobs, row.token, vocab, scratch.ids, *row.report);
}

void ProcessRow(SamplingRow& row, int64_t vocab, const LaneScratch& scratch) {
  float max;
  if (!sampling::MaxOfFinite(row.logits, vocab, &max)) {
    row.fault = RowFault::kNotFinite;
    row.fault_id = sampling::FindNotFinite(row.logits, vocab);
  } else if (row.target >= 0) {
    ScoreTarget(row, vocab, max, scratch);
  } else {
    SampleRow(row, vocab, max, scratch);
  }
}

int LanesFor(int64_t rows, int lanes) { return static_cast<int>(std::min<int64_t>(rows, lanes)); }

}  // namespace

double SamplingUniform(uint64_t seed, uint32_t choice, int64_t position) {
  const auto words = Philox(seed, static_cast<uint64_t>(position), choice);
  return UniformFrom(words[0], words[1]);
}

void SampleRows(std::span<SamplingRow> rows, int64_t vocab, Exec& exec) {
  if (rows.empty()) return;
  Arena::Scope scope(exec.scratch);
  const int lanes = LanesFor(static_cast<int64_t>(rows.size()), exec.team.lanes());
  LaneScratch* scratch = exec.scratch.Allocate<LaneScratch>(lanes);
  for (int lane = 0; lane < lanes; ++lane) scratch[lane] = AllocateLane(exec.scratch, vocab);
  if (lanes == 1) {
    for (SamplingRow& row : rows) ProcessRow(row, vocab, scratch[0]);
    return;
  }
  std::atomic<size_t> next = 0;  // rows cost unevenly; their results do not depend on the lane
  exec.team.Run([&](int lane) {
    if (lane >= lanes) return;
    for (size_t i = next.fetch_add(1, std::memory_order_relaxed); i < rows.size();
         i = next.fetch_add(1, std::memory_order_relaxed))
      ProcessRow(rows[i], vocab, scratch[lane]);
  });
}

uint64_t SamplingScratchBytes(int64_t rows, int64_t vocab, int lanes) {
  const uint64_t lane_bytes =
      3 * RoundUp(vocab * 4, 64) + RoundUp(CeilDiv(vocab, sampling::kSumBlock) * 8, 64);
  const int count = LanesFor(rows, lanes);
  return RoundUp(count * static_cast<int64_t>(sizeof(LaneScratch)), 64) + count * lane_bytes;
}

}  // namespace sluice
