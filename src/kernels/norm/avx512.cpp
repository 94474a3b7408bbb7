#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "kernels/norm/variants.h"

namespace sluice {
namespace {
#include "kernels/simd/avx512.inc"

#include "kernels/norm/rows.inc"
}  // namespace

void RmsNormAvx512(const RmsNormArgs& args, Exec& exec) { RunRmsNorm(args, exec); }
void AddRmsNormAvx512(const AddRmsNormArgs& args, Exec& exec) { RunAddRmsNorm(args, exec); }
void SandwichNormAvx512(const SandwichNormArgs& args, Exec& exec) { RunSandwichNorm(args, exec); }
void GatedGroupNormAvx512(const GatedGroupNormArgs& args, Exec& exec) {
  RunGatedGroupNorm(args, exec);
}

}  // namespace sluice
