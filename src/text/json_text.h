// JSON text to Boost.JSON values, with every double rounded as Python and the standard do it: the
// library's own parser (1.81) is off by one unit in the last place for about one number in a
// hundred, which a template would show.
#pragma once

#include <boost/json/fwd.hpp>
#include <string_view>

#include "base/status.h"

namespace sluice {

/// Errors: kInvalidArgument with the reason: not JSON, not UTF-8, nested deeper than `depth_max`.
Result<boost::json::value> ParseJsonText(std::string_view text, size_t depth_max = 64);

}  // namespace sluice
