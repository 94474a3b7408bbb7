// The host's side of the fused kernel: scratch, tensor maps, one launch a run.
#include <cuda.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <type_traits>
#include <utility>

#include "kernels/moe/cuda_sm90/device_moe.h"
#include "kernels/moe/cuda_sm90/fault.h"
#include "kernels/moe/cuda_sm90/fused.h"
#include "kernels/moe/cuda_sm90/separate_shared.h"
#include "kernels/moe/cuda_sm90/tensor_map.h"

namespace sluice::moe_sm90 {
namespace {

// Units of intermediate rows in the ring. Experts with many rows: few units, so that the ring stays
// in L2; with few: enough for the lag, their units are small.
constexpr int kRingUnitsWide = 6, kRingUnitsNarrow = 32;
constexpr int kLagForEver = 1 << 30;

Status FromCuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return Status();
  return Error(Code::kInternal, "{}: {}", what, cudaGetErrorString(error));
}

class FusedMoe : public DeviceMoe {
 public:
  FusedMoe(const MoeShape& shape, const DeviceWeights& weights, const FusedOptions& options)
      : options_(options) {
    p_.shape = shape;
    p_.padded_hidden = PaddedHidden(shape.hidden);
    p_.middle_stride = std::max(weights.routed().intermediate, weights.shared().intermediate);
    p_.x_in_place = shape.element == Element::kBf16 && p_.padded_hidden == shape.hidden;
    p_.delay_ns = options.delay_ns;
    p_.no_prefetch = !options.prefetch;
    p_.no_overlap = !options.overlap;
    for (int r = 0; r < shape.ranks; ++r) {
      p_.ranks[r].routed = ShareOf(weights.routed(), r);
      p_.ranks[r].shared = weights.shared();
    }
  }
  ~FusedMoe() override { cudaFreeHost(p_.fault); }

  Status Allocate() {
    TRY(encode_, FindTensorMapEncoder());
    int processors = 0;
    RETURN_IF_ERROR(FromCuda(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0),
                             "multiprocessors"));
    const int ranks = p_.shape.ranks;
    const int ctas = options_.ctas > 0 ? options_.ctas : processors;
    if (ctas < ranks || ctas > processors)
      return Error(Code::kInvalidArgument, "ctas: {}, allowed {} .. {}", ctas, ranks, processors);
    p_.ctas = ctas / ranks;
    p_.chunks_max = std::min(p_.ctas, CeilDiv(p_.shape.tokens_max * p_.shape.top_k, kChunkPairs));
    ring_units_max_ = !options_.residency       ? UnitsMax()
                      : options_.ring_units > 0 ? options_.ring_units
                                                : std::min(kRingUnitsNarrow, UnitsMax());
    RETURN_IF_ERROR(
        FromCuda(cudaHostAlloc(&p_.fault, sizeof(Fault), cudaHostAllocMapped), "fault record"));
    *p_.fault = {};
    LayOut();
    TRY(scratch_, DeviceBuffer::Allocate(scratch_used_, "scratch of fused_v2"));
    TRY(counters_, DeviceBuffer::Allocate(counters_used_, "counters of fused_v2"));
    LayOut();
    for (int r = 0; r < ranks; ++r) RETURN_IF_ERROR(MakeMaps(r));
    if (options_.trace) {
      TRY(trace_, DeviceBuffer::Allocate(sizeof(CtaTrace) * static_cast<uint64_t>(ranks * p_.ctas),
                                         "trace of fused_v2"));
      RETURN_IF_ERROR(FromCuda(cudaMemset(trace_.data(), 0, trace_.bytes()), "trace of fused_v2"));
      p_.trace = trace_.data<CtaTrace>();
    }
    return Status();
  }

  const char* name() const override { return "fused_v2"; }
  uint64_t scratch_bytes() const override { return scratch_.bytes() + counters_.bytes(); }

  Status Run(std::span<const RankArgs> ranks, CUstream_st* stream) override {
    const MoeShape& s = p_.shape;
    if (static_cast<int>(ranks.size()) != s.ranks)
      return Error(Code::kInvalidArgument, "fused_v2: {} ranks given, the shape has {}",
                   ranks.size(), s.ranks);
    int64_t tokens = 0;
    for (int r = 0; r < s.ranks; ++r) {
      if (ranks[r].tokens < 0 || ranks[r].tokens > s.tokens_max)
        return Error(Code::kInvalidArgument, "fused_v2: rank {} has {} tokens, allowed 0 .. {}", r,
                     ranks[r].tokens, s.tokens_max);
      FusedRank& rank = p_.ranks[r];
      rank.args = ranks[r];
      rank.chunks =
          std::min(p_.ctas, std::max(1, CeilDiv(rank.args.tokens * s.top_k, kChunkPairs)));
      tokens += rank.args.tokens;
      // Where x is read in place its map follows the caller's pointer.
      if (p_.x_in_place && rank.args.tokens > 0)
        RETURN_IF_ERROR(MakeXMaps(r, rank.args.x, rank.args.tokens));
    }
    if (tokens == 0) return Status();
    const int64_t rows_per_expert = tokens * s.top_k / s.experts;
    p_.ring_units = !options_.residency             ? ring_units_max_
                    : options_.ring_units > 0       ? options_.ring_units
                    : rows_per_expert > kNarrowRows ? std::min(kRingUnitsWide, ring_units_max_)
                                                    : ring_units_max_;
    // One and a half tasks a CTA: down tasks find their rows quantised, rings stay short.
    p_.lag_tasks = !options_.residency      ? kLagForEver
                   : options_.lag_tasks > 0 ? options_.lag_tasks
                   : options_.lag_tasks < 0 ? 0
                                            : p_.ctas * 3 / 2;
    p_.delay_seed = ++runs_;
    RETURN_IF_ERROR(FromCuda(cudaMemsetAsync(counters_.data(), 0, counters_.bytes(), stream),
                             "counters of fused_v2"));
    const bool instrumented =
        options_.instrumented || options_.trace || !options_.prefetch || !options_.overlap;
    return FromCuda(instrumented ? LaunchFusedInstrumented(p_, stream) : LaunchFused(p_, stream),
                    "fused_v2");
  }

  Result<DeviceTrace> Trace() const override {
    std::vector<CtaTrace> ctas(trace_.bytes() / sizeof(CtaTrace));
    RETURN_IF_ERROR(FromCuda(
        cudaMemcpy(ctas.data(), trace_.data(), trace_.bytes(), cudaMemcpyDeviceToHost), "trace"));
    return ReadTrace(ctas);
  }

  std::string FaultText() const override {
    const Fault& fault = *p_.fault;
    if (fault.what == 0) return {};
    return fmt::format("CTA {} waited for {} [{}]: found {}, needs {}", fault.cta,
                       WaitingName(fault.what), fault.idx, fault.found, fault.expected);
  }
  Status Poison(CUstream_st* stream) override {
    RETURN_IF_ERROR(
        FromCuda(cudaMemsetAsync(counters_.data(), 0xFF, counters_.bytes(), stream), "poison"));
    return FromCuda(cudaMemsetAsync(scratch_.data(), 0xFF, scratch_.bytes(), stream), "poison");
  }

 private:
  ExpertsView ShareOf(const ExpertsView& all, int rank) const {
    const int64_t share = p_.shape.experts / p_.shape.ranks, first = rank * share;
    const int64_t matrix = int64_t{all.hidden} * all.intermediate * ElementBytes(p_.shape.element);
    ExpertsView view = all;
    view.count = static_cast<int>(share);
    view.gate_up = static_cast<const uint8_t*>(all.gate_up) + first * 2 * matrix;
    view.gate_up_scales = all.gate_up_scales + first * 2 * all.intermediate;
    view.down = static_cast<const uint8_t*>(all.down) + first * matrix;
    view.down_scales = all.down_scales + first * all.hidden;
    return view;
  }

  // Rows that one rank may receive: everybody's.
  int64_t RowsMax() const { return int64_t{p_.shape.ranks} * p_.shape.tokens_max * p_.shape.top_k; }
  int BlocksMax() const {
    return p_.shape.experts / p_.shape.ranks + static_cast<int>(RowsMax() / kBlockRows) +
           CeilDiv(p_.shape.tokens_max, kBlockRows);
  }
  int UnitsMax() const {
    return p_.shape.experts / p_.shape.ranks + static_cast<int>(RowsMax() / kUnitRows) +
           CeilDiv(p_.shape.tokens_max, kUnitRows);
  }

  // Addresses of everything, or, before there is memory, sizes.
  void LayOut() {
    const MoeShape& s = p_.shape;
    const int64_t tokens = s.tokens_max, pairs = tokens * s.top_k,
                  element = ElementBytes(s.element);
    const int64_t middle = int64_t{ring_units_max_} * kUnitRows * p_.middle_stride;
    const bool fp8 = s.element == Element::kFp8;
    const auto place = [](DeviceBuffer& in, uint64_t& used, auto& pointer, int64_t count,
                          int64_t element_bytes) {
      pointer =
          reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(in.data<char>() + used);
      used += (static_cast<uint64_t>(count * element_bytes) + 255) / 256 * 256;
    };
    scratch_used_ = counters_used_ = 0;
    for (int rank = 0; rank < s.ranks; ++rank) {
      FusedRank& r = p_.ranks[rank];
      const auto data = [&](auto& pointer, int64_t count, int64_t bytes) {
        place(scratch_, scratch_used_, pointer, count, bytes);
      };
      data(r.x, p_.x_in_place ? 0 : tokens * p_.padded_hidden, element);
      data(r.x_scales, tokens, 4);
      data(r.sends, pairs, sizeof(Send));
      data(r.slot_weights, pairs, 4);
      data(r.rows, RowsMax() * p_.padded_hidden, element);
      data(r.row_scales, RowsMax(), 4);
      data(r.origins, RowsMax(), sizeof(Origin));
      data(r.middle, middle, 2);
      data(r.middle_codes, fp8 ? middle : 0, 1);
      data(r.slots, (pairs + tokens) * p_.padded_hidden, 2);
      data(r.counts, int64_t{s.ranks} * p_.chunks_max * s.experts, 4);
      const auto counter = [&](auto& pointer, int64_t count) {
        place(counters_, counters_used_, pointer, count, 4);
      };
      for (int** one : {&r.next_task, &r.next_item, &r.counted, &r.placed}) counter(*one, 1);
      counter(r.x_ready, CeilDiv(s.tokens_max, kBlockRows));
      for (int** blocks : {&r.arrived, &r.gate_up_done, &r.quantized})
        counter(*blocks, BlocksMax());
      counter(r.down_done, UnitsMax());
      counter(r.token_done, tokens);
      counter(r.middle_max, RowsMax());
      counter(r.shared_max, tokens);
    }
  }

  Status MakeXMaps(int rank, const void* x, int tokens) {
    FusedMaps& maps = p_.maps[rank];
    RETURN_IF_ERROR(
        MakeTensorMap(encode_, p_.shape.element, x, tokens, p_.padded_hidden, kBlockRows, maps.x));
    return MakeTensorMap(encode_, p_.shape.element, x, tokens, p_.padded_hidden, kNarrowBox,
                         maps.x_narrow);
  }

  Status MakeMaps(int rank) {
    const FusedRank& r = p_.ranks[rank];
    FusedMaps& maps = p_.maps[rank];
    if (!p_.x_in_place) RETURN_IF_ERROR(MakeXMaps(rank, r.x, p_.shape.tokens_max));
    const int64_t ring_rows = int64_t{ring_units_max_} * kUnitRows;
    const void* const middle =
        p_.shape.element == Element::kFp8 ? static_cast<const void*>(r.middle_codes) : r.middle;
    const struct {
      const void* data;
      int64_t rows, columns;
      int box_rows;
      CUtensorMap* map;
    } all[] = {
        {r.rows, RowsMax(), p_.padded_hidden, kBlockRows, &maps.rows},
        {r.rows, RowsMax(), p_.padded_hidden, kNarrowBox, &maps.rows_narrow},
        {middle, ring_rows, p_.middle_stride, kBlockRows, &maps.middle},
        {middle, ring_rows, p_.middle_stride, kNarrowBox, &maps.middle_narrow},
        {r.routed.gate_up, int64_t{2} * r.routed.count * r.routed.intermediate, p_.padded_hidden,
         kNarrowOutputs, &maps.gate_up},
        {r.routed.down, int64_t{r.routed.count} * p_.padded_hidden, r.routed.intermediate,
         kNarrowOutputs, &maps.down},
        {r.shared.gate_up, int64_t{2} * r.shared.intermediate, p_.padded_hidden, kNarrowOutputs,
         &maps.shared_gate_up},
        {r.shared.down, p_.padded_hidden, r.shared.intermediate, kNarrowOutputs, &maps.shared_down},
    };
    for (const auto& m : all)
      if (m.data)
        RETURN_IF_ERROR(MakeTensorMap(encode_, p_.shape.element, m.data, m.rows, m.columns,
                                      m.box_rows, *m.map));
    return Status();
  }

  FusedOptions options_;
  FusedParams p_ = {};
  TensorMapEncoder encode_ = nullptr;
  DeviceBuffer scratch_, counters_, trace_;
  uint64_t scratch_used_ = 0, counters_used_ = 0;
  int ring_units_max_ = 0;
  uint32_t runs_ = 0;
};

}  // namespace

Result<std::unique_ptr<DeviceMoe>> MakeFusedMoe(const MoeShape& shape, const DeviceWeights& weights,
                                                const FusedOptions& options) {
  RETURN_IF_ERROR(CheckShape(shape));
  if (!options.shared_inside && shape.shared_intermediate > 0)
    return MakeSeparateShared(shape, weights, options);
  auto moe = std::make_unique<FusedMoe>(shape, weights, options);
  RETURN_IF_ERROR(moe->Allocate());
  return std::unique_ptr<DeviceMoe>(std::move(moe));
}

}  // namespace sluice::moe_sm90
