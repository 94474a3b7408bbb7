// Shared by the kernels' tests: random data, errors, a team with scratch.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/random.h"
#include "tensor/dtype.h"
#include "tensor/exec.h"

namespace sluice {

/// A team, this machine's features and scratch memory, as an Exec.
class TestExec {
 public:
  explicit TestExec(int lanes = 1, uint64_t scratch_bytes = 64 << 20)
      : team_(lanes),
        scratch_(std::move(*Buffer::Allocate(scratch_bytes, "test scratch"))),
        exec{team_, ThisMachine(), scratch_} {}

 private:
  Team team_;
  Arena scratch_;

 public:
  Exec exec;
};

/// This machine, and what it has but would not choose.
inline Machine EverythingHere() {
  Machine machine = ThisMachine();
  if (machine.Has(kAvx512Bf16)) machine.features |= kFastBf16Dot;
  return machine;
}

/// Normal values; with `bf16`, rounded to bfloat16.
inline std::vector<float> RandomFloats(SplitMix64& random, int64_t count, float scale = 1,
                                       bool bf16 = false) {
  std::vector<float> out(static_cast<size_t>(count));
  for (float& x : out) {
    x = random.Normal() * scale;
    if (bf16) x = RoundToBf16(x);
  }
  return out;
}

/// 2-norm of the difference over the 2-norm of what is expected.
inline double RelativeError(const std::vector<float>& actual, const std::vector<float>& expected) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += (double{actual[i]} - expected[i]) * (double{actual[i]} - expected[i]);
    norm += double{expected[i]} * expected[i];
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

}  // namespace sluice
