#include <immintrin.h>

#include "kernels/rope/variants.h"

namespace sluice {
namespace {
#include "kernels/simd/avx2.inc"

#include "kernels/rope/rotate.inc"
}  // namespace

void RopeAvx2(const RopeArgs& args, Exec& exec) { RunRope(args, exec); }

}  // namespace sluice
