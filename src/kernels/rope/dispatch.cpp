#include "kernels/rope/variants.h"

namespace sluice {
namespace {

// clang-format off
const Variant<RopeArgs> kRopeVariants[] = {
    // name       needs      run
    {"avx512",    kAvx512,   RopeAvx512},
    {"avx2",      kAvx2,     RopeAvx2},
    {"reference", kAnything, RopeReference},
};
// clang-format on

}  // namespace

void Rope(const RopeArgs& args, Exec& exec) {
  CHECK(args.table.cos.dim(0) >= args.x.dim(0) && args.x.dim(2) >= 2 * args.table.cos.dim(1));
  Select(kRopeVariants, exec.machine).run(args, exec);
}

std::vector<Variant<RopeArgs>> RopeVariants() { return VariantsThatRunHere(kRopeVariants); }

}  // namespace sluice
