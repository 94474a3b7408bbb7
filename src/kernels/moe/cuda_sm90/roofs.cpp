#include "kernels/moe/cuda_sm90/roofs.h"

#include <cublasLt.h>
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <map>
#include <tuple>

#include "kernels/moe/cuda_sm90/device_moe.h"
#include "kernels/moe/cuda_sm90/device_timing.h"
#include "kernels/moe/cuda_sm90/plain.h"
#include "kernels/moe/cuda_sm90/stream_probe.h"
#include "kernels/moe/cuda_sm90/tensor_map.h"

namespace sluice::moe_sm90 {
namespace {

constexpr char kLibrary[] = "libcublasLt.so.13";
constexpr uint64_t kWorkspaceBytes = 64 << 20, kStreamBytes = uint64_t{4} << 30;
constexpr int64_t kMatrixElements = int64_t{kRoofSize} * kRoofSize;

#define SLUICE_CUBLASLT_FUNCTIONS(f)                                                              \
  f(Create) f(Destroy) f(GetStatusString) f(Matmul) f(MatmulAlgoGetHeuristic) f(MatmulDescCreate) \
      f(MatmulDescDestroy) f(MatmulDescSetAttribute) f(MatrixLayoutCreate) f(MatrixLayoutDestroy) \
          f(MatmulPreferenceCreate) f(MatmulPreferenceDestroy) f(MatmulPreferenceSetAttribute)

struct CublasLt {
#define SLUICE_MEMBER(name) decltype(&cublasLt##name) name = nullptr;
  SLUICE_CUBLASLT_FUNCTIONS(SLUICE_MEMBER)
#undef SLUICE_MEMBER

  Status Load() {
    void* const library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);  // for the process's life
    if (!library)
      return Error(Code::kUnsupported, "the roofs of products need {}: {}", kLibrary, dlerror());
#define SLUICE_LOAD(name)                                                    \
  name = reinterpret_cast<decltype(name)>(dlsym(library, "cublasLt" #name)); \
  if (!name) return Error(Code::kUnsupported, "{} has no cublasLt" #name, kLibrary);
    SLUICE_CUBLASLT_FUNCTIONS(SLUICE_LOAD)
#undef SLUICE_LOAD
    return Status();
  }
  Status Check(cublasStatus_t status, const char* what) const {
    if (status == CUBLAS_STATUS_SUCCESS) return Status();
    return Error(Code::kInternal, "cuBLASLt, {}: {}", what, GetStatusString(status));
  }
};

Status FromCuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return Status();
  return Error(Code::kInternal, "{}: {}", what, cudaGetErrorString(error));
}

// One product's description and the algorithm that the library chose. The library's matrices are
// column-major: out^T [n, m] = (b^T)^T a^T.
class Plan {
 public:
  explicit Plan(const CublasLt& lt) : lt_(lt) {}
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  ~Plan() {
    if (preference) lt_.MatmulPreferenceDestroy(preference);
    for (cublasLtMatrixLayout_t layout : {left, right, out})
      if (layout) lt_.MatrixLayoutDestroy(layout);
    if (matmul) lt_.MatmulDescDestroy(matmul);
  }

  Status Make(cublasLtHandle_t handle, Element element, int m, int n, int k, const void* a_scales,
              const void* b_scales) {
    const bool fp8 = element == Element::kFp8;
    RETURN_IF_ERROR(
        lt_.Check(lt_.MatmulDescCreate(&matmul, CUBLAS_COMPUTE_32F, CUDA_R_32F), "product"));
    RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T));
    if (fp8) {
      const int32_t mode = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
      RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, mode));
      RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, mode));
      RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, b_scales));
      RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, a_scales));
      RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, int8_t{1}));
    }
    const cudaDataType type = fp8 ? CUDA_R_8F_E4M3 : CUDA_R_16BF;
    RETURN_IF_ERROR(lt_.Check(lt_.MatrixLayoutCreate(&left, type, k, n, k), "layout"));
    RETURN_IF_ERROR(lt_.Check(lt_.MatrixLayoutCreate(&right, type, k, m, k), "layout"));
    RETURN_IF_ERROR(lt_.Check(lt_.MatrixLayoutCreate(&out, CUDA_R_16BF, n, m, n), "layout"));
    RETURN_IF_ERROR(lt_.Check(lt_.MatmulPreferenceCreate(&preference), "preference"));
    RETURN_IF_ERROR(lt_.Check(
        lt_.MatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                         &kWorkspaceBytes, sizeof(kWorkspaceBytes)),
        "preference"));
    int count = 0;
    const cublasStatus_t status = lt_.MatmulAlgoGetHeuristic(handle, matmul, left, right, out, out,
                                                             preference, 1, &found, &count);
    if (status == CUBLAS_STATUS_SUCCESS && count > 0) return Status();
    return Error(Code::kUnsupported, "cuBLASLt has no algorithm for {} x {} x {} in {}", m, n, k,
                 fp8 ? "fp8" : "bf16");
  }

  cublasLtMatmulDesc_t matmul = nullptr;
  cublasLtMatrixLayout_t left = nullptr, right = nullptr, out = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  cublasLtMatmulHeuristicResult_t found = {};

 private:
  template <class T>
  Status Set(cublasLtMatmulDescAttributes_t name, const T& value) {
    return lt_.Check(lt_.MatmulDescSetAttribute(matmul, name, &value, sizeof(value)), "attribute");
  }

  const CublasLt& lt_;
};

class Roofs : public DeviceRoofs {
 public:
  explicit Roofs(cudaStream_t stream) : stream_(stream) {}
  ~Roofs() override {
    cudaFreeHost(fault_);
    plans_.clear();
    if (handle_) lt_.Destroy(handle_);
  }

  Status Allocate() {
    RETURN_IF_ERROR(lt_.Load());
    RETURN_IF_ERROR(lt_.Check(lt_.Create(&handle_), "handle"));
    TRY(data_, DeviceBuffer::Allocate(kStreamBytes, "roofs: memory to read"));
    TRY(workspace_, DeviceBuffer::Allocate(kWorkspaceBytes, "roofs: workspace"));
    TRY(scales_, DeviceBuffer::Allocate(kMatrixElements * sizeof(float), "roofs: scales"));
    RETURN_IF_ERROR(FromCuda(LaunchFill(scales_.data<float>(), kMatrixElements, 1e-3f, stream_),
                             "roofs: scales"));
    for (DeviceBuffer* matrix : {&a_, &b_, &out_}) {
      TRY(*matrix, DeviceBuffer::Allocate(kMatrixElements * 2, "roofs: matrices"));
    }
    return FromCuda(LaunchRandomFp8(data_.data(), kStreamBytes, 3, stream_), "roofs: random data");
  }

  Result<double> Product(Element element, int m, int n, int k) override {
    RETURN_IF_ERROR(Draw(element));
    std::unique_ptr<Plan>& plan = plans_[{element, m, n, k}];
    if (!plan) {
      plan = std::make_unique<Plan>(lt_);
      RETURN_IF_ERROR(
          plan->Make(handle_, element, m, n, k, scales_.data(), scales_.data<float>() + m));
    }
    const float one = 1, zero = 0;
    TRY(const double seconds, TimeOnDevice(stream_, [&] {
          return lt_.Check(
              lt_.Matmul(handle_, plan->matmul, &one, b_.data(), plan->left, a_.data(), plan->right,
                         &zero, out_.data(), plan->out, out_.data(), plan->out, &plan->found.algo,
                         workspace_.data(), kWorkspaceBytes, stream_),
              "product");
        }));
    return 2.0 * m * n * k / seconds;
  }
  Result<double> Read() override {
    TRY(const double seconds, TimeOnDevice(stream_, [&] {
          return FromCuda(
              LaunchRead(data_.data(), kStreamBytes, workspace_.data<uint32_t>(), stream_),
              "roofs: reading");
        }));
    return static_cast<double>(kStreamBytes) / seconds;
  }
  Result<double> Copy() override {
    constexpr uint64_t kHalf = kStreamBytes / 2;
    TRY(const double seconds, TimeOnDevice(stream_, [&] {
          return FromCuda(cudaMemcpyAsync(data_.data(), data_.data<char>() + kHalf, kHalf,
                                          cudaMemcpyDeviceToDevice, stream_),
                          "roofs: copying");
        }));
    return static_cast<double>(kStreamBytes) / seconds;
  }

  Result<double> Stream(Source source, int stages) override {
    // As a matrix of bytes whose rows are as long as Ling-2.6-1T's.
    constexpr int kColumns = 8192, kPairsMemory = 960, kPairsL2 = 2048;
    if (!fault_) {
      RETURN_IF_ERROR(
          FromCuda(cudaHostAlloc(&fault_, sizeof(Fault), cudaHostAllocMapped), "fault"));
      *fault_ = {};
    }
    int ctas = 0;
    RETURN_IF_ERROR(FromCuda(cudaDeviceGetAttribute(&ctas, cudaDevAttrMultiProcessorCount, 0),
                             "multiprocessors"));
    ctas = ctas / 2 * 2;
    const bool memory = source == Source::kMemory;
    const int64_t rows = (memory ? static_cast<int64_t>(kStreamBytes) : 16 << 20) / kColumns;
    StreamProbe probe = {};
    TRY(const TensorMapEncoder encode, FindTensorMapEncoder());
    RETURN_IF_ERROR(
        MakeTensorMap(encode, Element::kFp8, data_.data(), rows, kColumns, 128, probe.map));
    probe.box_rows = static_cast<int>(rows / 256);
    probe.box_columns = kColumns / 128;
    probe.stages = stages;
    probe.boxes = memory ? kPairsMemory : kPairsL2;
    probe.shared = !memory;
    probe.multicast = source == Source::kL2Multicast;
    probe.fault = fault_;
    const auto seconds = TimeOnDevice(
        stream_, [&] { return FromCuda(LaunchStreamProbe(probe, ctas, stream_), "stream probe"); });
    if (!seconds.ok())
      return Error(Code::kInternal, "{} (waited for {})", seconds.status().message(),
                   WaitingName(fault_->what));
    return static_cast<double>(ctas) * probe.boxes * kProbePairBytes / *seconds;
  }

 private:
  // Random operands of the element, unless they are already.
  Status Draw(Element element) {
    if (drawn_ && drawn_element_ == element) return Status();
    const bool fp8 = element == Element::kFp8;
    for (const auto& [buffer, seed] : {std::tuple(&a_, 1), std::tuple(&b_, 2)})
      RETURN_IF_ERROR(
          FromCuda(fp8 ? LaunchRandomFp8(buffer->data(), kMatrixElements, seed, stream_)
                       : LaunchRandomBf16(buffer->data(), kMatrixElements, 1, seed, stream_),
                   "roofs: random data"));
    drawn_ = true;
    drawn_element_ = element;
    return Status();
  }

  CublasLt lt_;
  cublasLtHandle_t handle_ = nullptr;
  cudaStream_t stream_;
  DeviceBuffer data_, workspace_, scales_, a_, b_, out_;
  std::map<std::tuple<Element, int, int, int>, std::unique_ptr<Plan>> plans_;
  Fault* fault_ = nullptr;  // host memory
  bool drawn_ = false;
  Element drawn_element_ = Element::kBf16;
};

}  // namespace

Result<double> TimeOnDevice(CUstream_st* stream, const std::function<Status()>& work) {
  cudaEvent_t events[2] = {};
  for (cudaEvent_t& event : events) RETURN_IF_ERROR(FromCuda(cudaEventCreate(&event), "event"));
  const auto run = [&]() -> Result<double> {
    RETURN_IF_ERROR(FromCuda(cudaEventRecord(events[0], stream), "event"));
    RETURN_IF_ERROR(work());
    RETURN_IF_ERROR(FromCuda(cudaEventRecord(events[1], stream), "event"));
    RETURN_IF_ERROR(FromCuda(cudaEventSynchronize(events[1]), "run on the device"));
    float ms = 0;
    RETURN_IF_ERROR(FromCuda(cudaEventElapsedTime(&ms, events[0], events[1]), "event"));
    return 1e-3 * static_cast<double>(ms);
  };
  Result<double> seconds = run();
  for (cudaEvent_t event : events) cudaEventDestroy(event);
  return seconds;
}

Result<std::unique_ptr<DeviceRoofs>> DeviceRoofs::Make(CUstream_st* stream) {
  auto roofs = std::make_unique<Roofs>(stream);
  RETURN_IF_ERROR(roofs->Allocate());
  return std::unique_ptr<DeviceRoofs>(std::move(roofs));
}

}  // namespace sluice::moe_sm90
