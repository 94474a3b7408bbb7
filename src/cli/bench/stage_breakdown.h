// Where the time of one call of a layer goes: from the stages that its lanes recorded.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/trace.h"

namespace sluice {

/// Stages in the order in which rows pass through them (a dense product is gathered, unpacked and
/// multiplied); "other" is time that no stage covers.
inline constexpr std::string_view kStageNames[] = {"sort",       "gather", "unpack",  "gate/up",
                                                   "activation", "down",   "product", "combine",
                                                   "waiting",    "other"};

/// A stage's own time (stages inside it excepted), in seconds as a mean over the lanes: they add up
/// to the call's time.
struct StageTime {
  double seconds = 0;
  double beside_waiting = 0;  // of it, while another lane waited
};

/// Work inside the products, each part at its own ceiling as if it ran alone, in seconds.
struct ProductWork {
  double arithmetic = 0;  // operations / peak
  double reading = 0;     // bytes of the weights that are read at least once / read bandwidth
  double unpacking = 0;   // bytes decoded in registers on their way / unpack rate
};

struct StageBreakdown {
  std::string label;
  double seconds = 0;                        // of the call
  StageTime stages[std::size(kStageNames)];  // of kStageNames
  int64_t unpacked_bytes = 0;                // that the stage "unpack" went through
  ProductWork work;

  const StageTime& of(std::string_view stage) const;
  /// Of gate/up, down and product.
  double product_seconds() const;
  /// Of `work`, what at least took place at the same time as other parts of it: its sum less the
  /// time of the products.
  double hidden_seconds() const;
  /// From a run of `calls` calls to a mean call; before `work` is set.
  void DivideBy(int calls);
};

/// Whether any of the calls spent time in a stage of kStageNames.
bool AnyHas(std::span<const StageBreakdown> calls, size_t stage);

/// Of the call between two moments on `lanes` lanes; `events` may contain other calls'. A stage of
/// an unknown name counts to the one around it.
StageBreakdown BreakDown(std::span<const trace::Event> events, uint64_t begin_ns, uint64_t end_ns,
                         int lanes);

/// A bar of stages for each call, and below it the work inside its products. Errors: the file
/// cannot be written.
Status PlotBreakdowns(std::string_view title, std::span<const StageBreakdown> calls,
                      const std::string& path);

}  // namespace sluice
