// A scanned head as fields. Boost.Beast does the parsing; HeadScanner has approved every byte
// before.
#pragma once

#include <string_view>

#include "base/status.h"
#include "server/http/message.h"

namespace sluice {

/// `head`: HeadFrame's [begin, end). Errors: kInvalidArgument where Beast disagrees with the
/// scanner, or for a target that is neither a path, an http URI nor "*".
Result<HttpRequest> ParseHead(std::string_view head);

}  // namespace sluice
