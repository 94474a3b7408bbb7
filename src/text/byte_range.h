// A half-open range of bytes of a text.
#pragma once

#include <cstddef>

namespace sluice {

struct ByteRange {
  size_t begin = 0;
  size_t end = 0;
  bool operator==(const ByteRange&) const = default;
};

}  // namespace sluice
