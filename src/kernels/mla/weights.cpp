#include "kernels/mla/mla.h"

namespace sluice {

Result<MlaWeights> MlaWeights::Allocate(const MlaShape& shape) {
  MlaWeights weights;
  weights.shape_ = shape;
  weights.expand_.resize(shape.heads);
  weights.absorb_key_.resize(shape.heads);
  weights.absorb_value_.resize(shape.heads);
  for (int64_t h = 0; h < shape.heads; ++h) {
    TRY(weights.expand_[h], PackedMatrix::Allocate(shape.nope + shape.value, shape.latent));
    TRY(weights.absorb_key_[h], PackedMatrix::Allocate(shape.latent, shape.nope));
    TRY(weights.absorb_value_[h], PackedMatrix::Allocate(shape.value, shape.latent));
  }
  return weights;
}

template <class T>
void MlaWeights::Pack(View<const T, 2> kv_b) {
  const int64_t per_head = shape_.nope + shape_.value;
  CHECK_EQ(kv_b.dim(0), shape_.heads * per_head);
  CHECK_EQ(kv_b.dim(1), shape_.latent);
  std::vector<T> transposed(shape_.latent * shape_.nope);
  for (int64_t h = 0; h < shape_.heads; ++h) {
    const View<const T, 2> head = kv_b.Rows(h * per_head, per_head);
    expand_[h].Pack(0, head);
    for (int64_t n = 0; n < shape_.nope; ++n)
      for (int64_t r = 0; r < shape_.latent; ++r) transposed[r * shape_.nope + n] = head(n, r);
    absorb_key_[h].Pack(0, View<const T, 2>(transposed.data(), {shape_.latent, shape_.nope}));
    absorb_value_[h].Pack(0, head.Rows(shape_.nope, shape_.value));
  }
}

template void MlaWeights::Pack(View<const Bf16, 2> kv_b);
template void MlaWeights::Pack(View<const float, 2> kv_b);

uint64_t MlaWeights::bytes() const {
  uint64_t sum = 0;
  for (const PackedMatrix& matrix : expand_) sum += matrix.bytes();
  for (const PackedMatrix& matrix : absorb_key_) sum += matrix.bytes();
  for (const PackedMatrix& matrix : absorb_value_) sum += matrix.bytes();
  return sum;
}

}  // namespace sluice
