#include "kernels/moe/cuda_sm90/device_route.h"

#include <algorithm>

#include "kernels/moe/cuda_sm90/route_kernels.h"
#include "kernels/moe/cuda_sm90/shape.h"

namespace sluice::moe_sm90 {

Status DeviceRoute(const DeviceRouteArgs& a, CUstream_st* stream) {
  const struct {
    const char* name;
    int value, least, most;
  } fields[] = {
      {"tokens", a.tokens, 0, 1 << 17},
      {"experts", a.experts, 1, kExpertsMax},
      {"hidden", a.hidden, 1, 1 << 16},
      {"top_k", a.top_k, 1, std::min(a.experts, kTopKMax)},
      {"n_group", a.n_group, 0, a.experts},
      {"topk_group", a.topk_group, a.n_group > 0 ? 1 : 0, a.n_group},
  };
  for (const auto& field : fields)
    if (field.value < field.least || field.value > field.most)
      return Error(Code::kInvalidArgument, "router on the GPU: {} is {}, allowed {} .. {}",
                   field.name, field.value, field.least, field.most);
  if (a.n_group > 0 && a.experts % a.n_group != 0)
    return Error(Code::kInvalidArgument, "router on the GPU: n_group is {}, must divide {} experts",
                 a.n_group, a.experts);
  if (a.tokens == 0) return Status();
  const cudaError_t error = LaunchRoute(a, stream);
  if (error == cudaSuccess) return Status();
  return Error(Code::kInternal, "router on the GPU: {}", cudaGetErrorString(error));
}

}  // namespace sluice::moe_sm90
