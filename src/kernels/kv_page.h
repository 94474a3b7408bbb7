// The unit in which the cache of full attention is handed out.
#pragma once

#include <cstdint>

namespace sluice {

/// Tokens a KV page.
inline constexpr int64_t kKvPageTokens = 64;

}  // namespace sluice
