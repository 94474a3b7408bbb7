// Boost.JSON with the gaps closed that matter for files of a model: duplicate keys and numbers over
// the range of a double are refused. Internal to this folder.
#pragma once

#include <boost/json/value.hpp>
#include <string>
#include <string_view>

#include "base/status.h"

namespace sluice {

constexpr int kJsonDepthMax = 64;

/// Errors: kInvalidArgument naming `source` and the byte offset.
Result<boost::json::value> ParseStrictJson(std::string_view text, const std::string& source);

}  // namespace sluice
