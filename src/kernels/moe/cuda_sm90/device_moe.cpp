#include "kernels/moe/cuda_sm90/device_moe.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <utility>

#include "formats/fp8/e4m3.h"
#include "kernels/moe/cuda_sm90/plain.h"
#include "kernels/moe/cuda_sm90/task_stream.h"

namespace sluice::moe_sm90 {
namespace {

Status FromCuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return Status();
  return Error(Code::kInternal, "{}: {}", what, cudaGetErrorString(error));
}

// Rows of a matrix on the host, padded, with scales, ready to be copied.
struct HostMatrix {
  HostMatrix(Element element, int64_t rows, int64_t columns)
      : element(element),
        columns(columns),
        elements(static_cast<size_t>(rows * columns * ElementBytes(element))),
        scales(element == Element::kFp8 ? static_cast<size_t>(rows) : 0) {}

  void CopyRow(int64_t row, const PackedMatrix& from, int64_t output) {
    for (int64_t i = 0; i < from.inputs(); ++i) {
      const float value = from.Unscaled(output, i);
      const size_t at = static_cast<size_t>(row * columns + i);
      if (element == Element::kFp8)
        elements[at] = FloatToE4M3(value);
      else
        reinterpret_cast<Bf16*>(elements.data())[at] = ToBf16(value);
    }
    if (element == Element::kFp8) scales[static_cast<size_t>(row)] = from.Scale(output, 0);
  }

  Element element;
  int64_t columns;
  std::vector<uint8_t> elements;
  std::vector<float> scales;
};

Status CopyTo(const void* device, const void* host, uint64_t bytes) {
  return FromCuda(cudaMemcpy(const_cast<void*>(device), host, bytes, cudaMemcpyHostToDevice),
                  "weights to the device");
}

// Expert `index` of a view from its packed panels: 16 gate | 16 up columns become 8 | 8 rows.
Status UploadExpert(Element element, const ExpertsView& view, int index,
                    const ExpertWeights& expert) {
  const int64_t outputs = int64_t{2} * view.intermediate;
  HostMatrix gate_up(element, outputs, view.hidden);
  for (int64_t i = 0; i < expert.intermediate(); ++i) {
    const int64_t row = i / kInterleave * 2 * kInterleave + i % kInterleave;
    const int64_t output = i / 16 * 32 + i % 16;
    gate_up.CopyRow(row, expert.gate_up(), output);
    gate_up.CopyRow(row + kInterleave, expert.gate_up(), output + 16);
  }
  HostMatrix down(element, view.hidden, view.intermediate);
  for (int64_t o = 0; o < expert.hidden(); ++o) down.CopyRow(o, expert.down(), o);
  const auto to = [&](const void* base, const HostMatrix& matrix) {
    return CopyTo(static_cast<const uint8_t*>(base) + index * matrix.elements.size(),
                  matrix.elements.data(), matrix.elements.size());
  };
  RETURN_IF_ERROR(to(view.gate_up, gate_up));
  RETURN_IF_ERROR(to(view.down, down));
  if (element == Element::kBf16) return Status();
  RETURN_IF_ERROR(CopyTo(view.gate_up_scales + index * outputs, gate_up.scales.data(),
                         gate_up.scales.size() * sizeof(float)));
  return CopyTo(view.down_scales + int64_t{index} * view.hidden, down.scales.data(),
                down.scales.size() * sizeof(float));
}

Status CheckLayout(Element element, const ExpertWeights& expert) {
  const WeightLayout wanted =
      element == Element::kFp8 ? WeightLayout{WeightFormat::kFp8E4M3, 0} : WeightLayout{};
  if (expert.layout() == wanted) return Status();
  return Error(Code::kUnsupported,
               "experts on the GPU: format {} with {} inputs a scale, needs bf16, or fp8 with a "
               "scale per channel",
               static_cast<int>(expert.layout().format), expert.layout().scale_inputs);
}

class PlainMoe : public DeviceMoe {
 public:
  PlainMoe(const MoeShape& shape, const DeviceWeights& weights) {
    params_.shape = shape;
    params_.routed = weights.routed();
    params_.shared = weights.shared();
    params_.padded_hidden = PaddedHidden(shape.hidden);
    params_.middle_stride = std::max(params_.routed.intermediate, params_.shared.intermediate);
  }

  Status Allocate() {
    const MoeShape& s = params_.shape;
    const int64_t tokens = s.tokens_max, pairs = tokens * s.top_k, rows = pairs + tokens;
    const int64_t element = ElementBytes(s.element), hidden = params_.padded_hidden;
    const bool fp8 = s.element == Element::kFp8;
    uint64_t bytes = 0;
    // First the sizes, then, inside the allocation, the addresses.
    const auto place = [&](auto& pointer, int64_t count, int64_t element_bytes) {
      pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(scratch_.data<char>() +
                                                                             bytes);
      bytes += (static_cast<uint64_t>(count * element_bytes) + 255) / 256 * 256;
    };
    const auto lay_out = [&] {
      bytes = 0;
      place(params_.begins, s.experts + 2, 4);
      place(params_.block_begins, s.experts + 2, 4);
      place(params_.row_tokens, rows, 4);
      place(params_.row_slots, rows, 4);
      place(params_.slot_weights, pairs, 4);
      place(params_.x, tokens * hidden, element);
      place(params_.x_scales, tokens, 4);
      place(params_.middle, rows * params_.middle_stride, 2);
      place(params_.middle_codes, fp8 ? rows * params_.middle_stride : 0, 1);
      place(params_.middle_scales, rows, 4);
      place(params_.slots, rows * hidden, 2);
    };
    lay_out();
    TRY(scratch_, DeviceBuffer::Allocate(bytes, "scratch of epmoe"));
    lay_out();
    return Status();
  }

  const char* name() const override { return "epmoe"; }
  uint64_t scratch_bytes() const override { return scratch_.bytes(); }
  Status Run(std::span<const RankArgs> ranks, CUstream_st* stream) override {
    if (ranks.size() != 1 || ranks[0].tokens < 0 || ranks[0].tokens > params_.shape.tokens_max)
      return Error(Code::kInvalidArgument, "epmoe: {} ranks, first with {} tokens, allowed 1, {}",
                   ranks.size(), ranks.empty() ? 0 : ranks[0].tokens, params_.shape.tokens_max);
    if (ranks[0].tokens == 0) return Status();
    params_.args = ranks[0];
    return FromCuda(LaunchPlain(params_, stream), "epmoe");
  }
  Status Poison(CUstream_st* stream) override {
    return FromCuda(cudaMemsetAsync(scratch_.data(), 0xFF, scratch_.bytes(), stream), "poison");
  }

 private:
  PlainParams params_ = {};
  DeviceBuffer scratch_;
};

}  // namespace

Status CheckDevice() {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess || count == 0)
    return Error(Code::kUnsupported, "no CUDA device: {}",
                 error == cudaSuccess ? "none found" : cudaGetErrorString(error));
  cudaDeviceProp device;
  RETURN_IF_ERROR(FromCuda(cudaGetDeviceProperties(&device, 0), "properties of device 0"));
  if (device.major != 9 || device.minor != 0)
    return Error(Code::kUnsupported, "{}: compute capability {}.{}, needs 9.0", device.name,
                 device.major, device.minor);
  return Status();
}

Status CheckShape(const MoeShape& s) {
  const struct {
    const char* name;
    int value, least, most;
  } fields[] = {
      {"ranks", s.ranks, 1, kRanksMax},
      {"experts", s.experts, 1, kExpertsMax},
      {"top_k", s.top_k, 1, kTopKMax},
      {"hidden", s.hidden, 1, 1 << 16},
      {"intermediate", s.intermediate, 1, 1 << 16},
      {"shared_intermediate", s.shared_intermediate, 0, 1 << 16},
      {"tokens_max", s.tokens_max, 1, 1 << 17},
  };
  for (const auto& field : fields)
    if (field.value < field.least || field.value > field.most)
      return Error(Code::kInvalidArgument, "{}: {}, allowed {} .. {}", field.name, field.value,
                   field.least, field.most);
  if (s.experts % s.ranks != 0)
    return Error(Code::kInvalidArgument, "experts: {}, must be a multiple of the {} ranks",
                 s.experts, s.ranks);
  return Status();
}

Result<DeviceBuffer> DeviceBuffer::Allocate(uint64_t bytes, const char* what) {
  DeviceBuffer buffer;
  if (const cudaError_t error = cudaMalloc(&buffer.data_, std::max<uint64_t>(bytes, 256));
      error != cudaSuccess)
    return Error(Code::kOutOfMemory, "{}: {} bytes on the device: {}", what, bytes,
                 cudaGetErrorString(error));
  buffer.bytes_ = bytes;
  return buffer;
}

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}
DeviceBuffer::~DeviceBuffer() { cudaFree(data_); }

Result<ExpertsView> DeviceWeights::Allocate(Element element, int count, int hidden,
                                            int intermediate) {
  const uint64_t outputs = uint64_t{2} * intermediate, element_bytes = ElementBytes(element);
  const uint64_t matrix = static_cast<uint64_t>(count) * hidden * intermediate * element_bytes;
  TRY(auto gate_up, DeviceBuffer::Allocate(2 * matrix, "gate and up weights"));
  TRY(auto down, DeviceBuffer::Allocate(matrix, "down weights"));
  TRY(auto scales,
      DeviceBuffer::Allocate((outputs + hidden) * count * sizeof(float), "weight scales"));
  const ExpertsView view{.count = count,
                         .hidden = hidden,
                         .intermediate = intermediate,
                         .gate_up = gate_up.data(),
                         .gate_up_scales = scales.data<float>(),
                         .down = down.data(),
                         .down_scales = scales.data<float>() + outputs * count};
  for (DeviceBuffer* buffer : {&gate_up, &down, &scales}) {
    RETURN_IF_ERROR(FromCuda(cudaMemset(buffer->data(), 0, buffer->bytes()), "zeroing weights"));
    buffers_.push_back(std::move(*buffer));
  }
  return view;
}

Result<DeviceWeights> DeviceWeights::Upload(Element element,
                                            const std::vector<ExpertWeights>& experts,
                                            const ExpertWeights* shared) {
  DeviceWeights out;
  const auto upload = [&](const ExpertWeights* first, int count) -> Result<ExpertsView> {
    TRY(const ExpertsView view,
        out.Allocate(element, count, PaddedHidden(static_cast<int>(first->hidden())),
                     PaddedIntermediate(static_cast<int>(first->intermediate()))));
    for (int e = 0; e < count; ++e) {
      RETURN_IF_ERROR(CheckLayout(element, first[e]));
      RETURN_IF_ERROR(UploadExpert(element, view, e, first[e]));
    }
    return view;
  };
  TRY(out.routed_, upload(experts.data(), static_cast<int>(experts.size())));
  if (shared) {
    TRY(out.shared_, upload(shared, 1));
  }
  return out;
}

Result<DeviceWeights> DeviceWeights::Random(const MoeShape& shape, uint64_t seed) {
  DeviceWeights out;
  const auto make = [&](int count, int intermediate) -> Result<ExpertsView> {
    TRY(const ExpertsView view, out.Allocate(shape.element, count, PaddedHidden(shape.hidden),
                                             PaddedIntermediate(intermediate)));
    const int64_t matrix = int64_t{count} * view.hidden * view.intermediate;
    const auto fill = [&](const void* data, int64_t elements, const float* scales, int64_t outputs,
                          int inputs) -> Status {
      const float scale = 1.0f / std::sqrt(static_cast<float>(inputs));
      void* const to = const_cast<void*>(data);
      ++seed;
      if (shape.element == Element::kBf16)
        return FromCuda(LaunchRandomBf16(to, elements, scale, seed, nullptr), "random weights");
      RETURN_IF_ERROR(FromCuda(LaunchRandomFp8(to, elements, seed, nullptr), "random weights"));
      return FromCuda(LaunchFill(const_cast<float*>(scales), outputs, scale / 448, nullptr),
                      "random weights");
    };
    RETURN_IF_ERROR(fill(view.gate_up, 2 * matrix, view.gate_up_scales,
                         int64_t{2} * count * view.intermediate, shape.hidden));
    RETURN_IF_ERROR(
        fill(view.down, matrix, view.down_scales, int64_t{count} * view.hidden, intermediate));
    return view;
  };
  TRY(out.routed_, make(shape.experts, shape.intermediate));
  if (shape.shared_intermediate > 0) {
    TRY(out.shared_, make(1, shape.shared_intermediate));
  }
  RETURN_IF_ERROR(FromCuda(cudaDeviceSynchronize(), "random weights"));
  return out;
}

DeviceWeights DeviceWeights::RoutedAlone() const {
  DeviceWeights out;
  out.routed_ = routed_;
  return out;
}
DeviceWeights DeviceWeights::SharedAlone() const {
  DeviceWeights out;
  out.routed_ = shared_;
  return out;
}

Result<std::unique_ptr<DeviceMoe>> MakePlainMoe(const MoeShape& shape,
                                                const DeviceWeights& weights) {
  RETURN_IF_ERROR(CheckShape(shape));
  if (shape.ranks != 1)
    return Error(Code::kInvalidArgument, "epmoe on the GPU: {} ranks, allowed 1", shape.ranks);
  auto moe = std::make_unique<PlainMoe>(shape, weights);
  RETURN_IF_ERROR(moe->Allocate());
  return std::unique_ptr<DeviceMoe>(std::move(moe));
}

}  // namespace sluice::moe_sm90
