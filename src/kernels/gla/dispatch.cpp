#include "kernels/gla/gla.h"
#include "kernels/gla/variants.h"

namespace sluice {
namespace {

// clang-format off
// Best first; the last row suits every machine.
const Variant<GlaArgs> kGlaVariants[] = {
    // name       needs      run
    {"avx512",    kAvx512,   GlaAvx512},
    {"avx2",      kAvx2,     GlaAvx2},
    {"reference", kAnything, GlaReference},
};
// clang-format on

void CheckShapes(const GlaArgs& args) {
  CHECK(args.q.dims() == args.k.dims());
  CHECK_EQ(args.v.dim(0), args.q.dim(0));
  CHECK_EQ(args.v.dim(1), args.q.dim(1));
  CHECK(args.out.dims() == args.v.dims());
  CHECK(args.value_dtype == DType::kBf16 || args.value_dtype == DType::kF32);
  for (const GlaSequence& s : args.sequences) {
    CHECK(s.row_begin >= 0 && s.row_count >= 0 && s.position_begin >= 0);
    CHECK_LE(s.row_begin + s.row_count, args.q.dim(0));
  }
}

}  // namespace

void Gla(const GlaArgs& args, Exec& exec) {
  CheckShapes(args);
  Select(kGlaVariants, exec.machine).run(args, exec);
}

std::vector<Variant<GlaArgs>> GlaVariants() { return VariantsThatRunHere(kGlaVariants); }

}  // namespace sluice
