// What a GPU reaches at all, on random data: dense products through cuBLASLt, and reading memory.
#pragma once

#include <memory>

#include "base/status.h"
#include "kernels/moe/cuda_sm90/element.h"

struct CUstream_st;

namespace sluice::moe_sm90 {

class DeviceRoofs {
 public:
  /// Loads cuBLASLt, which nothing links against, and allocates the data. Errors: kUnsupported
  /// where the library is not found; kOutOfMemory.
  static Result<std::unique_ptr<DeviceRoofs>> Make(CUstream_st* stream);
  virtual ~DeviceRoofs() = default;

  /// FLOP/s of one product of [m, k] and [n, k], bf16 out; kFp8: with a scale a row and a column.
  /// m n, m k and n k are at most 2^26. Errors: kUnsupported where the library has no way to do it.
  virtual Result<double> Product(Element element, int m, int n, int k) = 0;
  /// Bytes per second of reading 4 GiB once.
  virtual Result<double> Read() = 0;
  /// Bytes read and written per second of copying 2 GiB.
  virtual Result<double> Copy() = 0;
  /// Bytes per second that the copy engine puts into shared memory, all multiprocessors together,
  /// with no arithmetic: each its own part of the memory (kMemory), all the same 16 MiB in
  /// groups of eight (kL2), or the same with each box read once for two multiprocessors
  /// (kL2Multicast). `stages` of 32 KiB each are under way.
  enum class Source { kMemory, kL2, kL2Multicast };
  virtual Result<double> Stream(Source source, int stages) = 0;
};

/// The product that stands for the element's peak: 8192 x 8192 x 8192.
inline constexpr int kRoofSize = 8192;

}  // namespace sluice::moe_sm90
