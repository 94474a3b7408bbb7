// Where an element of a head's page lies. bfloat16 pages hold two neighbours of the dimension that
// a product sums over side by side, as matrix units read them: keys [head_dim / 2][64][2], values
// [32][head_dim][2]. One 64-byte load then gives two vectors of a product's B, and AMX takes a
// tile's rows as they lie. Pages of floats have keys [head_dim][64] and values [64][head_dim].
// Where head_dim is odd, both are as long as if it were one more.
#pragma once

#include "kernels/kv_page.h"
#include "tensor/dtype.h"

namespace sluice {

/// Element of dimension `d` of token `t`'s key, from the beginning of the head's keys.
inline int64_t KeyIndex(DType dtype, int64_t t, int64_t d) {
  if (dtype == DType::kF32) return d * kKvPageTokens + t;
  return (d / 2 * kKvPageTokens + t) * 2 + d % 2;
}

/// The same for its value, from the beginning of the head's values.
inline int64_t ValueIndex(DType dtype, int64_t t, int64_t d, int64_t head_dim) {
  if (dtype == DType::kF32) return t * head_dim + d;
  return (t / 2 * head_dim + d) * 2 + t % 2;
}

/// Bytes of a kv head's keys in a page, and as many of its values, which follow them.
inline int64_t HeadKeysBytes(DType dtype, int64_t head_dim) {
  return kKvPageTokens * (head_dim + head_dim % 2) * DTypeBytes(dtype);
}

/// Bytes of a page of so many kv heads.
inline int64_t KvPageBytes(DType dtype, int64_t kv_heads, int64_t head_dim) {
  return kv_heads * 2 * HeadKeysBytes(dtype, head_dim);
}

}  // namespace sluice
