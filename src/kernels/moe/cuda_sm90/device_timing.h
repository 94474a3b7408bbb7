// Timing on the device.
#pragma once

#include <functional>

#include "base/status.h"

struct CUstream_st;

namespace sluice::moe_sm90 {

/// Seconds between an event before `work`, which enqueues on `stream`, and one behind it; waits for
/// it. Errors: those of `work`; kInternal with CUDA's message.
Result<double> TimeOnDevice(CUstream_st* stream, const std::function<Status()>& work);

}  // namespace sluice::moe_sm90
