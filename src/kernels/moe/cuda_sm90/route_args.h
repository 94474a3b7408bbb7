// What the router takes, as host and kernels see it.
#pragma once

#include <cstdint>

namespace sluice::moe_sm90 {

/// Fields as in RouteArgs; all pointers are device memory.
struct DeviceRouteArgs {
  int tokens = 0, experts = 0, hidden = 0, top_k = 0;
  const void* x = nullptr;      // bf16 [tokens, hidden]
  const float* gate = nullptr;  // [experts, hidden]
  const float* bias = nullptr;  // [experts] or nullptr
  float softcap = 0;
  bool softmax = false;  // ScoreFunction::kSoftmax; otherwise kSigmoid
  int n_group = 0, topk_group = 0;
  bool renormalize = true;
  float scaling = 1;
  int32_t* ids = nullptr;    // out: [tokens, top_k]
  float* weights = nullptr;  // out: [tokens, top_k]
  float* scores = nullptr;   // out: [tokens, experts], not nullptr: logits on the way
};

}  // namespace sluice::moe_sm90
