#include "cli/bench/cuda_moe_case.h"

#include <algorithm>
#include <utility>

#include "cli/bench/cuda_memory.h"
#include "tensor/dtype.h"

namespace sluice {
namespace {

using moe_sm90::DeviceBuffer;
using moe_sm90::RankArgs;

Result<std::vector<float>> Floats(const DeviceBuffer& rows, const char* what) {
  TRY(const std::vector<Bf16> values, ToHost<Bf16>(rows, what));
  std::vector<float> out(values.size());
  std::transform(values.begin(), values.end(), out.begin(),
                 [](Bf16 value) { return ToFloat(value); });
  return out;
}

}  // namespace

Result<std::unique_ptr<CudaMoeCase>> CudaMoeCase::Make(const MoeShape& shape, int64_t tokens,
                                                       uint64_t seed) {
  std::unique_ptr<CudaMoeCase> c(new CudaMoeCase(shape, tokens, seed));
  std::vector<Bf16> x(static_cast<size_t>(tokens * shape.hidden));
  for (Bf16& value : x) value = ToBf16(static_cast<float>(c->random_.Uniform() * 4 - 2));
  const auto pairs = static_cast<size_t>(tokens * shape.top_k);
  TRY(c->x_, ToDevice(x, "rows"));
  TRY(c->y_, ToDevice(std::vector<Bf16>(x.size()), "output rows"));
  TRY(c->weights_,
      ToDevice(std::vector<float>(pairs, 1 / static_cast<float>(shape.top_k)), "routing weights"));
  for (DeviceBuffer& ids : c->device_ids_) {
    TRY(ids, DeviceBuffer::Allocate(pairs * sizeof(int32_t), "routing"));
  }
  for (int routing = 0; routing < kRoutings; ++routing)
    RETURN_IF_ERROR(c->Draw(static_cast<Routing>(routing)));
  return c;
}

Status CudaMoeCase::Draw(Routing routing) {
  const auto r = static_cast<size_t>(routing);
  ids_[r] = DrawExperts(routing, shape_, tokens_, random_);
  return FromCuda(cudaMemcpy(device_ids_[r].data(), ids_[r].data(),
                             ids_[r].size() * sizeof(int32_t), cudaMemcpyHostToDevice),
                  "routing");
}

std::vector<RankArgs> CudaMoeCase::Args(const CudaContender& contender) const {
  std::vector<RankArgs> out;
  const int64_t ranks = contender.ranks;
  for (int64_t r = 0; r < ranks; ++r) {
    const int64_t begin = tokens_ * r / ranks, end = tokens_ * (r + 1) / ranks;
    out.push_back({.tokens = static_cast<int>(end - begin),
                   .x = x_.data<Bf16>() + begin * shape_.hidden,
                   .ids = device_ids_[static_cast<size_t>(contender.routing)].data<int32_t>() +
                          begin * shape_.top_k,
                   .weights = weights_.data<float>() + begin * shape_.top_k,
                   .y = y_.data<Bf16>() + begin * shape_.hidden});
  }
  return out;
}

LayerWork CudaMoeCase::Work(const CudaContender& contender, moe_sm90::Element element) const {
  MoeShape counted = shape_;
  if (!contender.shared) counted.shared = 0;
  const bool fp8 = element == moe_sm90::Element::kFp8;
  const auto bytes = [&](int64_t width) {
    const int64_t scales = fp8 ? (2 * width + shape_.hidden) * int64_t{sizeof(float)} : 0;
    return static_cast<uint64_t>(3 * width * shape_.hidden * ElementBytes(element) + scales);
  };
  return MoeWork(counted, ids_[static_cast<size_t>(contender.routing)], bytes(shape_.intermediate),
                 counted.shared ? bytes(counted.shared) : 0);
}

moe_sm90::MoeShape CudaMoeCase::DeviceShape(const CudaContender& contender,
                                            moe_sm90::Element element) const {
  const auto tokens_max = static_cast<int>((tokens_ + contender.ranks - 1) / contender.ranks);
  return {.element = element,
          .ranks = contender.ranks,
          .experts = static_cast<int>(shape_.experts),
          .top_k = static_cast<int>(shape_.top_k),
          .hidden = static_cast<int>(shape_.hidden),
          .intermediate = static_cast<int>(shape_.intermediate),
          .shared_intermediate = contender.shared ? static_cast<int>(shape_.shared) : 0,
          .tokens_max = std::max(tokens_max, 1)};
}

Result<std::vector<float>> CudaMoeCase::Rows() const { return Floats(x_, "rows"); }
Result<std::vector<float>> CudaMoeCase::Output() const { return Floats(y_, "output rows"); }

Status CudaMoeCase::Poison() {
  return FromCuda(cudaMemset(y_.data(), 0xFF, y_.bytes()), "output rows");
}

CudaReplay::CudaReplay(CudaReplay&& other) noexcept
    : graph_(std::exchange(other.graph_, nullptr)) {}
CudaReplay& CudaReplay::operator=(CudaReplay&& other) noexcept {
  std::swap(graph_, other.graph_);
  return *this;
}
CudaReplay::~CudaReplay() {
  if (graph_) cudaGraphExecDestroy(graph_);
}

Result<CudaReplay> CudaReplay::Capture(const std::function<Status()>& enqueue,
                                       CUstream_st* stream) {
  CudaReplay replay;
  cudaGraph_t graph = nullptr;
  RETURN_IF_ERROR(
      FromCuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture"));
  const Status ran = enqueue();
  const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
  Status status = ran.ok() ? FromCuda(ended, "capture") : ran;
  if (status.ok()) status = FromCuda(cudaGraphInstantiate(&replay.graph_, graph, 0), "graph");
  if (graph) cudaGraphDestroy(graph);
  if (!status.ok()) return status;
  return replay;
}

Status CudaReplay::Launch(CUstream_st* stream) const {
  return FromCuda(cudaGraphLaunch(graph_, stream), "replay");
}

}  // namespace sluice
