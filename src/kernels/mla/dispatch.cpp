#include "kernels/mla/mla.h"
#include "kernels/mla/variants.h"

namespace sluice {
namespace {

// clang-format off
// Best first; the last row suits every machine.
const Variant<MlaArgs> kMlaVariants[] = {
    // name       needs      run
    {"avx512",    kAvx512,   MlaAvx512},
    {"avx2",      kAvx2,     MlaAvx2},
    {"reference", kAnything, MlaReference},
};
// clang-format on

void CheckShapes(const MlaArgs& args) {
  const MlaShape& shape = args.shape;
  CHECK_EQ(args.q.dim(1), shape.heads);
  CHECK_EQ(args.q.dim(2), shape.nope + shape.rope);
  CHECK_EQ(args.out.dim(0), args.q.dim(0));
  CHECK_EQ(args.out.dim(1), shape.heads);
  CHECK_EQ(args.out.dim(2), shape.value);
  CHECK(args.cache.dtype == DType::kBf16 || args.cache.dtype == DType::kF32);
  for (const MlaSequence& s : args.sequences) {
    CHECK(s.row_begin >= 0 && s.row_count >= 0 && s.position_begin >= 0);
    CHECK_LE(s.row_begin + s.row_count, args.q.dim(0));
  }
}

}  // namespace

void Mla(const MlaArgs& args, Exec& exec) {
  CheckShapes(args);
  Select(kMlaVariants, exec.machine).run(args, exec);
}

std::vector<Variant<MlaArgs>> MlaVariants() { return VariantsThatRunHere(kMlaVariants); }

}  // namespace sluice
