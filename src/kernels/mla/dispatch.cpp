#include "kernels/mla/mla.h"
#include "kernels/mla/variants.h"

namespace sluice {
namespace {

// Products with weights on AMX tiles where their inputs are bfloat16s; the rest in fp32.
void MlaAmx(const MlaArgs& args, Exec& exec) {
  MlaOverPages(args, exec, kBlockOpsAvx512,
               args.bf16_inputs ? PanelProductAmx : PanelProductAvx512);
}
void MlaAvx512Bf16(const MlaArgs& args, Exec& exec) {
  if (args.bf16_inputs && args.rounding == Rounding::kBf16)
    MlaOverPages(args, exec, kBlockOpsAvx512, PanelProductAvx512Bf16, NarrowDotsAvx512Bf16);
  else
    MlaOverPages(args, exec, kBlockOpsAvx512, PanelProductAvx512);
}
void MlaAvx512(const MlaArgs& args, Exec& exec) {
  MlaOverPages(args, exec, kBlockOpsAvx512, PanelProductAvx512);
}
void MlaAvx2(const MlaArgs& args, Exec& exec) {
  MlaOverPages(args, exec, kBlockOpsAvx2, PanelProductAvx2);
}

// clang-format off
// Best first; the last row suits every machine.
const Variant<MlaArgs> kMlaVariants[] = {
    // name         needs               run
    {"amx",         kAmxBf16 | kAvx512, MlaAmx},
    {"avx512_bf16", kDotProducts,       MlaAvx512Bf16},
    {"avx512",      kAvx512,            MlaAvx512},
    {"avx2",        kAvx2,              MlaAvx2},
    {"reference",   kAnything,          MlaReference},
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
