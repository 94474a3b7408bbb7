#include <immintrin.h>

#include "kernels/moe/combine.h"

namespace sluice {
namespace {

#include "kernels/simd/avx512.inc"

#include "kernels/moe/combine.inc"

}  // namespace

void CombineRowsAvx512(const CombineArgs& args) { RunCombine(args); }

}  // namespace sluice
