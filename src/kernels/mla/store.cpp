#include <algorithm>

#include "kernels/block/drive.h"
#include "kernels/mla/mla.h"

namespace sluice {
namespace {

void Write(const BlockOps& ops, const float* from, int64_t count, DType dtype, std::byte* to) {
  if (dtype == DType::kF32)
    std::copy_n(from, count, reinterpret_cast<float*>(to));
  else
    ops.narrow(from, count, to);
}

}  // namespace

void MlaStore(const MlaStoreArgs& args, Exec& exec) {
  const LatentCache& cache = args.cache;
  const int64_t latent = args.latent.dim(1), rope = args.key.dim(1);
  CHECK(cache.dtype == DType::kBf16 || cache.dtype == DType::kF32);
  CHECK_EQ(args.latent.dim(0), args.key.dim(0));
  const int64_t element = DTypeBytes(cache.dtype);
  const BlockOps& ops = SelectBlockOps(exec.machine);
  for (const MlaSequence& s : args.sequences) {
    CHECK(s.row_begin >= 0 && s.row_count >= 0 && s.row_begin + s.row_count <= args.latent.dim(0));
    exec.team.ParallelFor(s.row_count, kKvPageTokens, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t position = s.position_begin + r;
        std::byte* to = cache.base + s.pages[position / kKvPageTokens] * cache.page_stride +
                        position % kKvPageTokens * (latent + rope) * element;
        Write(ops, args.latent.row(s.row_begin + r), latent, cache.dtype, to);
        Write(ops, args.key.row(s.row_begin + r), rope, cache.dtype, to + latent * element);
      }
    });
  }
}

}  // namespace sluice
