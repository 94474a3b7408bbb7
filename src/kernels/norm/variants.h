// The variants of the norms, for dispatch.cpp only.
#pragma once

#include "kernels/norm/norm.h"

namespace sluice {

void RmsNormReference(const RmsNormArgs& args, Exec& exec);
void RmsNormAvx2(const RmsNormArgs& args, Exec& exec);
void RmsNormAvx512(const RmsNormArgs& args, Exec& exec);

void AddRmsNormReference(const AddRmsNormArgs& args, Exec& exec);
void AddRmsNormAvx2(const AddRmsNormArgs& args, Exec& exec);
void AddRmsNormAvx512(const AddRmsNormArgs& args, Exec& exec);

void SandwichNormReference(const SandwichNormArgs& args, Exec& exec);
void SandwichNormAvx2(const SandwichNormArgs& args, Exec& exec);
void SandwichNormAvx512(const SandwichNormArgs& args, Exec& exec);

void GatedGroupNormReference(const GatedGroupNormArgs& args, Exec& exec);
void GatedGroupNormAvx2(const GatedGroupNormArgs& args, Exec& exec);
void GatedGroupNormAvx512(const GatedGroupNormArgs& args, Exec& exec);

}  // namespace sluice
