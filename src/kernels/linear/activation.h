// The activation of a gated feed-forward layer: y = act(gate) * up.
#pragma once

#include <cstdint>

namespace sluice {

enum class Activation : uint8_t {
  kSilu,      // x sigmoid(x)
  kGeluTanh,  // 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), arXiv 1606.08415
};

}  // namespace sluice
