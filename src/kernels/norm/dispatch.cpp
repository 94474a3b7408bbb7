#include "kernels/norm/variants.h"

namespace sluice {
namespace {

// clang-format off
const Variant<RmsNormArgs> kRmsNormVariants[] = {
    // name       needs      run
    {"avx512",    kAvx512,   RmsNormAvx512},
    {"avx2",      kAvx2,     RmsNormAvx2},
    {"reference", kAnything, RmsNormReference},
};
const Variant<AddRmsNormArgs> kAddRmsNormVariants[] = {
    {"avx512",    kAvx512,   AddRmsNormAvx512},
    {"avx2",      kAvx2,     AddRmsNormAvx2},
    {"reference", kAnything, AddRmsNormReference},
};
const Variant<SandwichNormArgs> kSandwichNormVariants[] = {
    {"avx512",    kAvx512,   SandwichNormAvx512},
    {"avx2",      kAvx2,     SandwichNormAvx2},
    {"reference", kAnything, SandwichNormReference},
};
const Variant<GatedGroupNormArgs> kGatedGroupNormVariants[] = {
    {"avx512",    kAvx512,   GatedGroupNormAvx512},
    {"avx2",      kAvx2,     GatedGroupNormAvx2},
    {"reference", kAnything, GatedGroupNormReference},
};
// clang-format on

}  // namespace

void RmsNorm(const RmsNormArgs& args, Exec& exec) {
  CHECK(args.x.dims() == args.y.dims());
  Select(kRmsNormVariants, exec.machine).run(args, exec);
}

void AddRmsNorm(const AddRmsNormArgs& args, Exec& exec) {
  CHECK(args.residual.dims() == args.delta.dims() && args.residual.dims() == args.y.dims());
  Select(kAddRmsNormVariants, exec.machine).run(args, exec);
}

void SandwichNorm(const SandwichNormArgs& args, Exec& exec) {
  CHECK(args.residual.dims() == args.delta.dims() && args.residual.dims() == args.y.dims());
  Select(kSandwichNormVariants, exec.machine).run(args, exec);
}

void GatedGroupNorm(const GatedGroupNormArgs& args, Exec& exec) {
  CHECK(args.x.dims() == args.gate.dims() && args.x.dims() == args.y.dims());
  CHECK(args.groups > 0 && args.x.dim(1) % args.groups == 0);
  Select(kGatedGroupNormVariants, exec.machine).run(args, exec);
}

std::vector<Variant<RmsNormArgs>> RmsNormVariants() {
  return VariantsThatRunHere(kRmsNormVariants);
}
std::vector<Variant<AddRmsNormArgs>> AddRmsNormVariants() {
  return VariantsThatRunHere(kAddRmsNormVariants);
}
std::vector<Variant<SandwichNormArgs>> SandwichNormVariants() {
  return VariantsThatRunHere(kSandwichNormVariants);
}
std::vector<Variant<GatedGroupNormArgs>> GatedGroupNormVariants() {
  return VariantsThatRunHere(kGatedGroupNormVariants);
}

}  // namespace sluice
