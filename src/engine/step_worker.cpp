#include "engine/step_worker.h"

#include <algorithm>
#include <utility>

#include "base/trace.h"
#include "base/units.h"

namespace sluice {
namespace {

// Rows of logits at a time: enough to share the reading of the output matrix, 32 MiB at most.
int64_t LogitRows(int64_t vocab, int64_t rows) {
  return std::min(std::clamp<int64_t>((int64_t{32} << 20) / (vocab * 4), 16, 256), rows);
}

SamplingRow MakeRow(OutputRow& output, float* logits) {
  Request& r = *output.request;
  SamplingRow row;
  row.logits = logits;
  if (r.in.logprobs.enabled) row.logprobs = &r.in.logprobs;
  if (output.prompt_position >= 0) {
    row.target = r.in.prompt[output.prompt_position];
    row.report = &r.prompt_logprobs[output.prompt_position - r.in.logprobs.prompt_start];
    return row;
  }
  row.report = &output.report;
  row.params = &r.in.sampling;
  row.history = r.history ? &*r.history : nullptr;
  if (r.generated() < r.in.sampling.min_new_tokens) row.masked = r.in.stop_ids;
  row.seed = r.in.seed;
  row.position = r.token_count();
  return row;
}

}  // namespace

uint64_t StepWorker::ScratchBytes(const Model& model, int64_t rows, int lanes) {
  const int64_t vocab = model.info().vocab_size;
  const int64_t logit_rows = LogitRows(vocab, rows);
  const auto matrix = [](int64_t m, int64_t n) {
    return static_cast<uint64_t>(RoundUp(m * n * 4, 64));
  };
  return matrix(rows, model.info().hidden_size) + matrix(logit_rows, vocab) +
         std::max(model.ScratchBytes(rows, logit_rows, lanes),
                  SamplingScratchBytes(logit_rows, vocab, lanes));
}

Result<StepWorker> StepWorker::Create(const Model& model, int64_t rows, Team& team,
                                      const Machine& machine) {
  TRY(Buffer scratch, Buffer::Allocate(ScratchBytes(model, rows, team.lanes()), "scratch"));
  return StepWorker(model, rows, team, machine, Arena(std::move(scratch)));
}

StepWorker::StepWorker(const Model& model, int64_t rows, Team& team, const Machine& machine,
                       Arena arena)
    : model_(&model),
      logit_rows_(LogitRows(model.info().vocab_size, rows)),
      team_(&team),
      machine_(&machine),
      arena_(std::move(arena)) {}

void StepWorker::Run(std::span<const StepItem> items, LaneRun& run, const CachePools& pools) {
  outcomes_.clear();
  RunStep(items, pools);
  for (steps_run_ = 1; run.GoesOn(steps_run_); ++steps_run_) {
    going_on_.clear();
    for (const StepOutcome& last : std::span(outcomes_).last(items.size()))
      if (!last.event.finish) going_on_.push_back({last.request, 1, true});
    if (going_on_.empty()) return run.RunsOut(steps_run_);
    items = going_on_;
    RunStep(items, pools);
  }
}

void StepWorker::RunStep(std::span<const StepItem> items, const CachePools& pools) {
  batch_.Build(items);
  Compute(pools);
  for (size_t i = 0; i < items.size(); ++i)
    if (std::optional<StepOutcome> outcome = SettleItem(items[i], i, batch_))
      outcomes_.push_back(std::move(*outcome));
}

void StepWorker::Compute(const CachePools& pools) {
  const Arena::Scope scope(arena_);
  Exec exec{*team_, *machine_, arena_};
  const auto output_count = static_cast<int64_t>(batch_.outputs().size());
  const View<float, 2> hidden = arena_.Matrix<float>(output_count, model_->info().hidden_size);
  {
    const trace::Span span("forward");
    model_->Forward(batch_.View(), pools, hidden, exec);
  }
  for (int64_t begin = 0; begin < output_count; begin += logit_rows_)
    ChooseTokens(hidden.Rows(begin, std::min(logit_rows_, output_count - begin)), begin);
}

void StepWorker::ChooseTokens(View<const float, 2> hidden, int64_t output_begin) {
  const Arena::Scope scope(arena_);
  Exec exec{*team_, *machine_, arena_};
  const int64_t rows = hidden.dim(0), vocab = model_->info().vocab_size;
  const View<float, 2> logits = arena_.Matrix<float>(rows, vocab);
  {
    const trace::Span span("logits");
    model_->Logits(hidden, logits, exec);
  }
  const trace::Span span("sample");
  sampling_rows_.clear();
  for (int64_t i = 0; i < rows; ++i)
    sampling_rows_.push_back(MakeRow(batch_.outputs()[output_begin + i], logits.row(i)));
  SampleRows(sampling_rows_, vocab, exec);
  for (int64_t i = 0; i < rows; ++i) {
    OutputRow& output = batch_.outputs()[output_begin + i];
    output.token = sampling_rows_[i].token;
    output.fault = sampling_rows_[i].fault;
    output.fault_id = sampling_rows_[i].fault_id;
  }
}

}  // namespace sluice
