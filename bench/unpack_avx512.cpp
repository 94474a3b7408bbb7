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

#include "kernels/linear/fp8_avx512.inc"

#include "kernels/linear/fp8_nibbles.inc"

#include "kernels/linear/bytes_avx512.inc"

#include "kernels/linear/integer_weights.inc"

#include "bench/unpack_slices.inc"

constexpr UnpackLoop kLoops[] = {
    Unpack<Bf16Weights>("bf16", "avx512", kAvx512),
    Unpack<Fp8Weights>("fp8", "avx512", kAvx512),
    Unpack<Int8Weights>("int8", "avx512", kAvx512),
    Unpack<Int4Weights>("int4", "avx512", kAvx512),
};

}  // namespace

std::span<const UnpackLoop> Avx512UnpackLoops() { return kLoops; }

}  // namespace sluice::bench
