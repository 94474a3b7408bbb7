// What the files of this folder share; users include gla.h.
#pragma once

#include "kernels/gla/gla.h"

namespace sluice {

void GlaReference(const GlaArgs& args, Exec& exec);
void GlaAvx2(const GlaArgs& args, Exec& exec);
void GlaAvx512(const GlaArgs& args, Exec& exec);

}  // namespace sluice
