#include <algorithm>

#include "kernels/gqa/gqa.h"
#include "kernels/gqa/kv_layout.h"

namespace sluice {
namespace {

void Write(float x, DType dtype, std::byte* to, int64_t index) {
  if (dtype == DType::kF32)
    reinterpret_cast<float*>(to)[index] = x;
  else
    reinterpret_cast<Bf16*>(to)[index] = ToBf16(x);
}

// One token of one kv head.
void StoreHead(const GqaStoreArgs& args, int64_t row, int64_t head, int64_t t, std::byte* page) {
  const DType dtype = args.cache.dtype;
  const int64_t head_dim = args.shape.head_dim, bytes = HeadKeysBytes(dtype, head_dim);
  const float *key = &args.key(row, head, 0), *value = &args.value(row, head, 0);
  std::byte* keys = page + head * 2 * bytes;
  for (int64_t d = 0; d < head_dim; ++d) {
    Write(key[d], dtype, keys, KeyIndex(dtype, t, d));
    Write(value[d], dtype, keys + bytes, ValueIndex(dtype, t, d, head_dim));
  }
}

// Rows [begin, end) of a sequence, a head at a time: a chunk's tokens of one page share its lines.
void StoreRows(const GqaStoreArgs& args, const GqaSequence& s, int64_t begin, int64_t end) {
  for (int64_t head = 0; head < args.shape.kv_heads; ++head)
    for (int64_t r = begin; r < end; ++r) {
      const int64_t position = s.position_begin + r;
      StoreHead(args, s.row_begin + r, head, position % kKvPageTokens,
                args.cache.base + s.pages[position / kKvPageTokens] * args.cache.page_stride);
    }
}

}  // namespace

void GqaStore(const GqaStoreArgs& args, Exec& exec) {
  CHECK(args.cache.dtype == DType::kBf16 || args.cache.dtype == DType::kF32);
  CHECK_EQ(args.key.dim(0), args.value.dim(0));
  CHECK_EQ(args.key.dim(1), args.shape.kv_heads);
  CHECK_EQ(args.key.dim(2), args.shape.head_dim);
  CHECK_EQ(args.value.dim(1), args.shape.kv_heads);
  CHECK_EQ(args.value.dim(2), args.shape.head_dim);
  int64_t rows = 0;
  for (const GqaSequence& s : args.sequences) {
    CHECK(s.row_begin >= 0 && s.row_count >= 0 && s.row_begin + s.row_count <= args.key.dim(0));
    rows += s.row_count;
  }
  // Shares of all rows together, so that many short sequences are shared out as well. Two lanes may
  // write neighbouring tokens of a page: different elements of the same lines.
  const int64_t grain = Team::GrainFor(8 * args.shape.kv_heads * args.shape.head_dim);
  exec.team.ParallelFor(rows, grain, [&](int64_t begin, int64_t end) {
    int64_t before = 0;
    for (const GqaSequence& s : args.sequences) {
      const int64_t first = std::max<int64_t>(begin - before, 0);
      const int64_t last = std::min(end - before, s.row_count);
      if (first < last) StoreRows(args, s, first, last);
      before += s.row_count;
    }
  });
}

}  // namespace sluice
