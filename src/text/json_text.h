// JSON text to Boost.JSON values, with every double rounded as Python and the standard do it: the
// library's own parser (1.81) is off by one unit in the last place for about one number in a
// hundred, which a template would show.
#pragma once

#include <boost/json/fwd.hpp>
#include <boost/system/error_code.hpp>
#include <string_view>

#include "base/status.h"

namespace sluice {

/// Errors: kInvalidArgument with the reason: not JSON, not UTF-8, nested deeper than `depth_max`.
Result<boost::json::value> ParseJsonText(std::string_view text, size_t depth_max = 64);

/// The same with the library's own error and the byte it stands at, for callers with their own
/// words. Bytes after the document are `extra_data` at the first of them. Null on errors.
boost::json::value ParseJsonText(std::string_view text, size_t depth_max,
                                 boost::system::error_code& error, size_t& error_byte);

}  // namespace sluice
