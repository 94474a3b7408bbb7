// What a client sent as messages and tools, checked and brought into the form that chat templates
// expect.
#pragma once

#include <boost/json/fwd.hpp>

#include "base/status.h"

namespace sluice {

inline constexpr size_t kMessagesMax = 4096;
inline constexpr size_t kToolsMax = 128;

/// A copy of `messages` in which
/// - roles are system, user, assistant or tool, in small letters (developer is system, function
/// tool);
/// - `content` is a string (null becomes empty; text parts are joined by a space, as SGLang does),
/// or
///   a list of text parts if `keep_parts`;
/// - arguments of tool calls are objects, `reasoning` is `reasoning_content`;
/// - fields that are null, and empty tool_calls, are absent.
/// Errors: kInvalidArgument (kUnsupported for parts other than text) with param messages[i]... .
Result<boost::json::array> NormalizeMessages(const boost::json::value& messages, bool keep_parts);

/// Errors: kInvalidArgument with param tools[i]... unless `tools` is a list of at most kToolsMax
/// functions with names.
Status CheckTools(const boost::json::value& tools);

}  // namespace sluice
