// What a step made of one request: its new token, its end, or neither.
#pragma once

#include <optional>

#include "engine/step_batch.h"

namespace sluice {

struct StepOutcome {
  Request* request;
  CoreEvent event;          // with `finish` if the request is over; the caller removes it then
  bool not_finite = false;  // ended by a logit that is no number: its memory must be cleared
};

/// Enters what was computed for item `item_idx` of `batch` into its request, and says what comes of
/// it. Nothing, if the prompt goes on or was only scored in part. Touches that request alone, so
/// lanes may settle theirs at the same time.
std::optional<StepOutcome> SettleItem(const StepItem& item, size_t item_idx, StepBatch& batch);

/// An event of `request` with nothing in it yet.
CoreEvent EventFor(const Request& request);

CoreFinish AbortFinish(Status why);

}  // namespace sluice
