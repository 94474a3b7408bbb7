// Traces of the fused kernel on a GPU, as Chrome trace and as a breakdown into stages.
#pragma once

#include <string>

#include "base/status.h"
#include "cli/bench/stage_breakdown.h"
#include "kernels/moe/cuda_sm90/device_trace.h"
#include "server/json/json_writer.h"

namespace sluice {

/// Calls as processes, one after another; a track a warp that did anything.
class DeviceChromeTrace {
 public:
  DeviceChromeTrace();
  void Add(const std::string& label, const moe_sm90::DeviceTrace& trace);
  /// Errors: the file cannot be written. Once.
  Status Write(const std::string& path);

 private:
  void NameOf(const char* what, int process, int track, const std::string& name);

  JsonWriter json_;
  int calls_ = 0;
  uint64_t begin_ns_ = 0;
};

/// Of the warps that multiply (each warpgroup's first), so that gate/up, down, writing and waiting
/// add up to the call.
StageBreakdown BreakDownDevice(const moe_sm90::DeviceTrace& trace, int ctas);

}  // namespace sluice
