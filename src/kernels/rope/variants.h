// The variants of the rotation, for dispatch.cpp only.
#pragma once

#include "kernels/rope/rope.h"

namespace sluice {

void RopeReference(const RopeArgs& args, Exec& exec);
void RopeAvx2(const RopeArgs& args, Exec& exec);
void RopeAvx512(const RopeArgs& args, Exec& exec);

}  // namespace sluice
