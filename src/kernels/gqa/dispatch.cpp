#include "kernels/gqa/gqa.h"
#include "kernels/gqa/variants.h"

namespace sluice {
namespace {

// Whole pages on AMX tiles where their inputs are bfloat16s; the rest in fp32.
void GqaAmx(const GqaArgs& args, Exec& exec) {
  GqaOverPages(args, exec, kBlockOpsAvx512, {.tiles = SuitsTiles(args) ? &kTileOpsAmx : nullptr});
}
// Scores by dot products of pairs of bfloat16s; the softmax's weights are not such, so their
// products with the values are fp32.
void GqaAvx512Bf16(const GqaArgs& args, Exec& exec) {
  GqaOverPages(args, exec, kBlockOpsAvx512,
               {.scores = SuitsNarrow(args, 2) ? NarrowProductAvx512Bf16 : nullptr});
}
void GqaAvx512(const GqaArgs& args, Exec& exec) { GqaOverPages(args, exec, kBlockOpsAvx512); }
void GqaAvx2(const GqaArgs& args, Exec& exec) { GqaOverPages(args, exec, kBlockOpsAvx2); }

// clang-format off
// Best first; the last row suits every machine.
const Variant<GqaArgs> kGqaVariants[] = {
    // name         needs               run
    {"amx",         kAmxBf16 | kAvx512, GqaAmx},
    {"avx512_bf16", kDotProducts,       GqaAvx512Bf16},
    {"avx512",      kAvx512,            GqaAvx512},
    {"avx2",        kAvx2,              GqaAvx2},
    {"reference",   kAnything,          GqaReference},
};
// clang-format on

void CheckShapes(const GqaArgs& args) {
  const GqaShape& shape = args.shape;
  CHECK(shape.kv_heads > 0 && shape.heads > 0 && shape.heads % shape.kv_heads == 0);
  CHECK_GT(shape.head_dim, 0);
  CHECK_EQ(args.q.dim(1), shape.heads);
  CHECK_EQ(args.q.dim(2), shape.head_dim);
  CHECK_EQ(args.out.dim(0), args.q.dim(0));
  CHECK_EQ(args.out.dim(1), shape.heads);
  CHECK_EQ(args.out.dim(2), shape.head_dim);
  CHECK(args.cache.dtype == DType::kBf16 || args.cache.dtype == DType::kF32);
  CHECK(args.temperature_length == 0 || args.temperature_length >= 2);
  for (const GqaSequence& s : args.sequences) {
    CHECK(s.row_begin >= 0 && s.row_count >= 0 && s.position_begin >= 0);
    CHECK_LE(s.row_begin + s.row_count, args.q.dim(0));
  }
}

}  // namespace

void Gqa(const GqaArgs& args, Exec& exec) {
  CheckShapes(args);
  Select(kGqaVariants, exec.machine).run(args, exec);
}

std::vector<Variant<GqaArgs>> GqaVariants() { return VariantsThatRunHere(kGqaVariants); }

}  // namespace sluice
