// Typed access to the JSON of tokenizer files, with errors that name the member. Internal to this
// folder.
#pragma once

#include <boost/json.hpp>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/status.h"

namespace sluice {

namespace json = boost::json;

/// Bytes of one token.
inline constexpr size_t kTokenBytesMax = 1024;

/// A JSON object in `memory`, which must outlive it. Errors: kBadCheckpoint; kTooLarge, before
/// anything is parsed, for more values than a parse within 1 GiB can hold.
Result<json::value> ParseObject(std::string_view text, json::monotonic_resource* memory);

Status Bad(std::string_view where, std::string_view what);
Status Unsupported(std::string_view where, std::string_view value, std::string_view allowed);

/// Null if absent or null.
const json::value* Member(const json::object& object, std::string_view key);
Result<bool> BoolMember(const json::object& object, std::string_view where, std::string_view key,
                        bool if_absent);
/// Empty if absent.
Result<std::string_view> StringMember(const json::object& object, std::string_view where,
                                      std::string_view key);
/// Null if absent. `where` ends in "." or is empty.
Result<const json::object*> ObjectMember(const json::object& object, std::string_view where,
                                         std::string_view key);
/// Required.
Result<const json::array*> ArrayMember(const json::object& object, std::string_view where,
                                       std::string_view key);
/// An integer in 0 .. INT32_MAX.
Result<int32_t> ReadId(const json::value& value, std::string_view where);

}  // namespace sluice
