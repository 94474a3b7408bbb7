// What the files of this folder share; users include mla.h.
#pragma once

#include "kernels/mla/mla.h"

namespace sluice {

void MlaReference(const MlaArgs& args, Exec& exec);
void MlaAvx2(const MlaArgs& args, Exec& exec);
void MlaAvx512(const MlaArgs& args, Exec& exec);

}  // namespace sluice
