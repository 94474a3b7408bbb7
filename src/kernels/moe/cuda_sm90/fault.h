// What stopped a launch whose waits took too long.
#pragma once

namespace sluice::moe_sm90 {

/// In host memory, so that it survives the trap.
struct Fault {
  int what;  // a Waiting; 0: nothing happened
  int cta, idx, found, expected;
};

enum class Waiting : int {
  kNothing,
  kCounts,
  kPlaced,
  kXReady,
  kArrived,
  kRing,
  kGateUp,
  kQuantized,
  kToken,
  kFullStage,
  kEmptyStage,
  kFullTask,
  kEmptyTask,
};

inline const char* WaitingName(int what) {
  constexpr const char* kNames[] = {
      "nothing",           "counts of all chunks", "placed pairs",   "quantised rows of x",
      "arrived rows",      "a place in the ring",  "gate/up tiles",  "quantised intermediate rows",
      "rows of a token",   "a full stage",         "an empty stage", "a full task slot",
      "an empty task slot"};
  return what >= 0 && what < 13 ? kNames[what] : "?";
}

}  // namespace sluice::moe_sm90
