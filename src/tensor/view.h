// Non-owning views of row-major arrays. The last dimension is contiguous; the others have strides,
// so a column range or every n-th row of a matrix is a view too.
#pragma once

#include <array>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "base/check.h"

namespace sluice {

template <class T, int kRank>
class View {
 public:
  View() = default;

  /// A dense array.
  View(T* data, std::array<int64_t, kRank> dims) : data_(data), dims_(dims) {
    int64_t stride = 1;
    for (int i = kRank - 1; i >= 0; --i) {
      strides_[i] = stride;
      stride *= dims[i];
    }
  }

  /// Strides in elements; strides[kRank - 1] must be 1.
  View(T* data, std::array<int64_t, kRank> dims, std::array<int64_t, kRank> strides)
      : data_(data), dims_(dims), strides_(strides) {}

  /// A view of T converts to a view of const T.
  template <class U, class = std::enable_if_t<std::is_same_v<const U, T>>>
  View(const View<U, kRank>& other)  // NOLINT: implicit by design
      : data_(other.data()), dims_(other.dims()), strides_(other.strides()) {}

  T* data() const { return data_; }
  int64_t dim(int i) const { return dims_[i]; }
  int64_t stride(int i) const { return strides_[i]; }
  const std::array<int64_t, kRank>& dims() const { return dims_; }
  const std::array<int64_t, kRank>& strides() const { return strides_; }

  template <class... Index>
  T& operator()(Index... index) const {
    static_assert(sizeof...(Index) == kRank);
    return data_[Offset(std::make_index_sequence<kRank>(), index...)];
  }

  /// First element of row i of the outermost dimension.
  T* row(int64_t i) const {
    DCHECK(i >= 0 && i < dims_[0]);
    return data_ + i * strides_[0];
  }

  /// Rows [begin, begin + count) of the outermost dimension.
  View Rows(int64_t begin, int64_t count) const {
    DCHECK(begin >= 0 && count >= 0 && begin + count <= dims_[0]);
    View out = *this;
    out.data_ += begin * strides_[0];
    out.dims_[0] = count;
    return out;
  }

  /// Columns [begin, begin + count) of the innermost dimension.
  View Columns(int64_t begin, int64_t count) const {
    DCHECK(begin >= 0 && count >= 0 && begin + count <= dims_[kRank - 1]);
    View out = *this;
    out.data_ += begin;
    out.dims_[kRank - 1] = count;
    return out;
  }

  /// The innermost dimension split in two: [rows, a * b] seen as [rows, a, b].
  View<T, kRank + 1> Split(int64_t inner) const {
    DCHECK(dims_[kRank - 1] % inner == 0);
    std::array<int64_t, kRank + 1> dims, strides;
    for (int i = 0; i < kRank; ++i) {
      dims[i] = dims_[i];
      strides[i] = strides_[i];
    }
    dims[kRank - 1] = dims_[kRank - 1] / inner;
    strides[kRank - 1] = inner;
    dims[kRank] = inner;
    strides[kRank] = 1;
    return {data_, dims, strides};
  }

 private:
  template <size_t... I, class... Index>
  int64_t Offset(std::index_sequence<I...>, Index... index) const {
    const std::array<int64_t, kRank> at = {static_cast<int64_t>(index)...};
    ((void)(CheckIndex(at[I], I)), ...);
    return ((at[I] * strides_[I]) + ...);
  }
  void CheckIndex(int64_t index, size_t dimension) const {
    DCHECK(index >= 0 && index < dims_[dimension]);
    (void)index;
    (void)dimension;
  }

  T* data_ = nullptr;
  std::array<int64_t, kRank> dims_ = {};
  std::array<int64_t, kRank> strides_ = {};
};

}  // namespace sluice
