// When a step is better cut into sequences, one share a lane, than into operations.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/scheduler.h"
#include "models/model.h"

namespace sluice {

/// Rows that one lane takes alone: beyond them an operation is long enough to be shared.
inline constexpr int64_t kLaneRowsMax = 64;

/// Decode steps that a lane takes before it waits for the others, a few milliseconds in models that
/// small. Their tokens come out together.
inline constexpr int64_t kLaneSteps = 16;
/// The same while another lane is behind.
inline constexpr int64_t kLaneStepsMax = 2 * kLaneSteps;

/// A model this small stays in every core's caches, so lanes that each read all of it cost nothing,
/// while sharing an operation of a few microseconds costs as much as the operation.
bool LanesMayShareSequences(const Model& model, int lanes);

/// Cuts `items`, in order, into at most `lanes` shares of about equal work. Empty if that would
/// leave lanes idle for much of the step, or if a share would exceed kLaneRowsMax rows. No bit
/// depends on it: a row's result does not depend on the rows beside it.
void ShareSequences(std::span<const StepItem> items, int lanes,
                    std::vector<std::span<const StepItem>>* shares);

}  // namespace sluice
