#include "cli/bench/cuda_contenders.h"
#include "cli/bench/moe_cuda.h"

namespace sluice {

Status BenchMoeOnCuda(const BenchMoeOptions& options) {
  RETURN_IF_ERROR(CheckCudaOptions(options));
  return ParamError(Code::kUnsupported, "device",
                    "--device cuda: this program was built without CUDA; building it with "
                    "-DSLUICE_CUDA=ON needs a CUDA 13 toolkit");
}

}  // namespace sluice
