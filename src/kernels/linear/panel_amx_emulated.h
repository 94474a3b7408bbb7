// The AMX kernel on emulated tiles: for tests on machines without AMX, never in a dispatch table.
#pragma once

#include "kernels/linear/panel_product.h"

namespace sluice {

void PanelProductAmxEmulated(const PanelProduct& product);
void PanelProductFp8AmxEmulated(const PanelProduct& product);
void PanelProductInt8AmxEmulated(const PanelProduct& product);
void PanelProductInt4AmxEmulated(const PanelProduct& product);

inline constexpr PanelKernel kAmxEmulated = {
    "amx_emulated",
    kAnything,
    true,
    {PanelProductAmxEmulated, PanelProductFp8AmxEmulated, PanelProductInt8AmxEmulated,
     PanelProductInt4AmxEmulated}};

}  // namespace sluice
