#include <immintrin.h>

#include "base/trace.h"
#include "bench/unpack.h"
#include "formats/weight_format.h"
#include "tensor/dtype.h"

namespace sluice::bench {
namespace {

#include "kernels/simd/avx512.inc"

#include "kernels/linear/pairs_avx512.inc"

#include "kernels/linear/weights.inc"

#include "kernels/linear/fp8_vbmi.inc"

#include "bench/unpack_slices.inc"

constexpr UnpackLoop kLoops[] = {
    Unpack<Fp8Weights>("fp8", "avx512_vbmi", kAvx512 | kAvx512Vbmi),
};

}  // namespace

std::span<const UnpackLoop> Avx512VbmiUnpackLoops() { return kLoops; }

}  // namespace sluice::bench
