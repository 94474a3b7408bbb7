// Where an operation runs: the threads, the processor's features and the scratch memory of one
// device. Every kernel entry takes one.
#pragma once

#include <cstdint>
#include <vector>

#include "base/machine.h"
#include "base/team.h"
#include "tensor/arena.h"

namespace sluice {

struct Exec {
  Team& team;
  const Machine& machine;
  Arena& scratch;  // for the caller's lane; operations take Arena::Scope
};

/// One row of a dispatch table: a variant, what it needs, and where it pays.
template <class Args>
struct Variant {
  const char* name;
  uint32_t needs;  // Feature bits
  void (*run)(const Args&, Exec&);
};

/// The first row that the machine can run; tables are best first and end with the reference, which
/// needs nothing.
template <class Args, size_t kCount>
const Variant<Args>& Select(const Variant<Args> (&table)[kCount], const Machine& machine) {
  for (const Variant<Args>& variant : table)
    if (machine.Has(variant.needs)) return variant;
  return table[kCount - 1];
}

/// Every row that runs on this machine, for tests and benches.
template <class Args, size_t kCount>
std::vector<Variant<Args>> VariantsThatRunHere(const Variant<Args> (&table)[kCount]) {
  std::vector<Variant<Args>> out;
  for (const Variant<Args>& variant : table)
    if (ThisMachine().Has(variant.needs)) out.push_back(variant);
  return out;
}

/// Where results are rounded. Activations are held as floats everywhere; under kBf16 every value
/// that the model's arithmetic rounds to bfloat16 is rounded there (docs/numerics.md), so the
/// float holds a bfloat16 value; under kNone nothing is rounded (--dtype float32).
enum class Rounding { kBf16, kNone };

}  // namespace sluice
