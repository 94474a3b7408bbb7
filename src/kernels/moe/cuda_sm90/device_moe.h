// The mixture-of-experts layer on one Hopper GPU, perhaps as several virtual ranks: weights and
// shapes as the kernels take them. All pointers are device memory. Results follow MoeArgs
// (kernels/moe/moe.h) with Rounding::kBf16 and bf16 inputs and outputs; of Element::kFp8, rows of x
// and of the intermediate are quantised per row (quantized_reference.h has the definition).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "kernels/moe/cuda_sm90/device_trace.h"
#include "kernels/moe/cuda_sm90/shape.h"
#include "kernels/moe/moe.h"

struct CUstream_st;  // *cudaStream_t

namespace sluice::moe_sm90 {

/// Why the kernels cannot run here ("no CUDA device: ...", "compute capability 8.9, needs 9.0"), or
/// OK.
Status CheckDevice();

/// Errors: kInvalidArgument naming the field, its value and what is allowed.
Status CheckShape(const MoeShape& shape);

/// Device memory that frees itself.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  /// Errors: kOutOfMemory naming `what`.
  static Result<DeviceBuffer> Allocate(uint64_t bytes, const char* what);
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;
  ~DeviceBuffer();

  template <class T = void>
  T* data() const {
    return static_cast<T*>(data_);
  }
  uint64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  uint64_t bytes_ = 0;
};

/// The weights of one layer, of all ranks.
class DeviceWeights {
 public:
  /// Errors: kUnsupported for other layouts than bf16 (kBf16) or fp8 per channel (kFp8);
  /// kOutOfMemory. `shared` may be nullptr. Repacks element by element: for tests.
  static Result<DeviceWeights> Upload(Element element, const std::vector<ExpertWeights>& experts,
                                      const ExpertWeights* shared);
  /// Random numbers of the size that trained weights have, made on the device: for benches.
  static Result<DeviceWeights> Random(const MoeShape& shape, uint64_t seed);

  const ExpertsView& routed() const { return routed_; }
  const ExpertsView& shared() const { return shared_; }  // count 0: none

  /// Views of parts, which must not outlive this: the routed experts; the shared one, as the only
  /// routed one.
  DeviceWeights RoutedAlone() const;
  DeviceWeights SharedAlone() const;

 private:
  Result<ExpertsView> Allocate(Element element, int count, int hidden, int intermediate);

  std::vector<DeviceBuffer> buffers_;
  ExpertsView routed_, shared_;
};

/// A back end. Runs are asynchronous on their stream, may be captured into a graph, and share
/// scratch: one at a time.
class DeviceMoe {
 public:
  virtual ~DeviceMoe() = default;
  virtual const char* name() const = 0;
  virtual uint64_t scratch_bytes() const = 0;
  /// One entry a rank. Errors: kInvalidArgument for tokens outside the shape; kInternal with CUDA's
  /// message.
  virtual Status Run(std::span<const RankArgs> ranks, CUstream_st* stream) = 0;
  /// After a failed synchronisation: which wait inside the kernel took too long, or "".
  virtual std::string FaultText() const { return {}; }
  /// Of the run before, which must have ended. Empty unless it was asked for (FusedOptions).
  virtual Result<DeviceTrace> Trace() const { return DeviceTrace(); }
  /// Fills scratch with 0xFF bytes, which are not-a-number in every format: for tests.
  virtual Status Poison(CUstream_st* stream) = 0;
};

/// "epmoe": separate launches, products of 16 x 16 tiles in bf16 (fp8 codes are exact in it): the
/// oracle on the device, and the plain baseline. One rank. `weights` must outlive it.
Result<std::unique_ptr<DeviceMoe>> MakePlainMoe(const MoeShape& shape,
                                                const DeviceWeights& weights);

/// How the fused kernel is cut up; what is 0 is chosen from the device and the shape.
struct FusedOptions {
  int ctas = 0;        // of all ranks
  int lag_tasks = 0;   // task_stream.h; -1: none
  int ring_units = 0;  // task_stream.h
  int delay_ns = 0;    // at most so many before each task and row item, at random: for tests
  // Parts to do without, to see what they are worth; bits stay the same. `prefetch` and `overlap`
  // switch to the instrumented kernel.
  bool prefetch = true;   // weights are fetched before their rows have arrived
  bool overlap = true;    // products begin while rows are still sent
  bool residency = true;  // a ring of few units keeps the intermediate in L2; otherwise all
                          // gate/up products come first, then all down products
  bool shared_inside =
      true;  // otherwise the shared expert is a launch of its own, and a third adds
  bool instrumented = false;  // the instrumented kernel in any case
  bool trace = false;         // it, and it writes a trace
};

/// "fused_v2": one persistent launch. `weights` must outlive it. Errors: as CheckShape;
/// kInvalidArgument for options out of range, and for a shared expert of its own launch with
/// several ranks or with a trace.
Result<std::unique_ptr<DeviceMoe>> MakeFusedMoe(const MoeShape& shape, const DeviceWeights& weights,
                                                const FusedOptions& options = {});

}  // namespace sluice::moe_sm90
