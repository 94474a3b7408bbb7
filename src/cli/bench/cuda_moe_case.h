// Rows and routing of `sluice bench moe --device cuda` in the GPU's memory, and calls on them as
// graphs.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "cli/bench/cuda_contenders.h"

struct CUgraphExec_st;
struct CUstream_st;

namespace sluice {

/// One number of tokens.
class CudaMoeCase {
 public:
  /// Errors: kOutOfMemory.
  static Result<std::unique_ptr<CudaMoeCase>> Make(const MoeShape& shape, int64_t tokens,
                                                   uint64_t seed);

  int64_t hidden() const { return shape_.hidden; }

  /// Fresh routing at the old addresses, which graphs hold.
  Status Draw(Routing routing);
  /// Each rank's part, of the routing last drawn.
  std::vector<moe_sm90::RankArgs> Args(const CudaContender& contender) const;
  LayerWork Work(const CudaContender& contender, moe_sm90::Element element) const;
  moe_sm90::MoeShape DeviceShape(const CudaContender& contender, moe_sm90::Element element) const;

  /// The rows, and the output rows.
  Result<std::vector<float>> Rows() const;
  Result<std::vector<float>> Output() const;
  const void* x() const { return x_.data(); }
  /// Fills the output rows with not-a-numbers.
  Status Poison();

 private:
  CudaMoeCase(const MoeShape& shape, int64_t tokens, uint64_t seed)
      : shape_(shape), tokens_(tokens), random_(seed) {}

  MoeShape shape_;
  int64_t tokens_;
  SplitMix64 random_;
  std::vector<int32_t> ids_[kRoutings];
  moe_sm90::DeviceBuffer x_, y_, weights_, device_ids_[kRoutings];
};

/// Whatever a call enqueues, to be enqueued again.
class CudaReplay {
 public:
  CudaReplay() = default;
  CudaReplay(CudaReplay&& other) noexcept;
  CudaReplay& operator=(CudaReplay&& other) noexcept;
  ~CudaReplay();
  /// Errors: those of `enqueue`, which uses `stream`; kInternal.
  static Result<CudaReplay> Capture(const std::function<Status()>& enqueue, CUstream_st* stream);
  Status Launch(CUstream_st* stream) const;

 private:
  CUgraphExec_st* graph_ = nullptr;
};

}  // namespace sluice
