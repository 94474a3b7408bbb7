#pragma once

#include <memory>

#include "server/api/text_service.h"

namespace sluice {

/// The routes' view of a model's tokenizer and template; null for null. `front` is borrowed.
std::unique_ptr<TextService> MakeFrontTextService(const TextFront* front);

}  // namespace sluice
