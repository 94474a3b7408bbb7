// The AMX kernel of integer products on emulated tiles: for tests on machines without AMX, never in
// a dispatch table.
#pragma once

#include "kernels/linear/integer/integer_kernel.h"

namespace sluice {

void PanelTilesInt8AmxEmulated(const PanelProduct& product);
void PanelTilesInt4AmxEmulated(const PanelProduct& product);

inline constexpr IntegerKernel kAmxInt8Emulated = {
    "amx_emulated",
    kAnything,
    QuantizeRowAvx2,
    {nullptr, nullptr, PanelTilesInt8AmxEmulated, PanelTilesInt4AmxEmulated}};

}  // namespace sluice
