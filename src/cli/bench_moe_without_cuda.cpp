#include "cli/bench_moe_cuda.h"
#include "cli/cuda_contenders.h"

namespace sluice {

Status BenchMoeOnCuda(const BenchMoeOptions& options) {
  RETURN_IF_ERROR(CheckCudaOptions(options));
  return ParamError(Code::kUnsupported, "device",
                    "--device cuda: this program was built without CUDA; building it with "
                    "-DSLUICE_CUDA=ON needs a CUDA 13 toolkit");
}

}  // namespace sluice
