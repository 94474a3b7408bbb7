// Server-sent events as every known client reads them: `data: `, one JSON object, a blank line; no
// other kind of line.
#pragma once

#include <string>
#include <string_view>

namespace sluice {

/// `json` holds no raw newline: JsonWriter escapes them.
inline void AppendSse(std::string& out, std::string_view json) {
  out += "data: ";
  out += json;
  out += "\n\n";
}

inline constexpr std::string_view kSseDone = "data: [DONE]\n\n";
inline constexpr const char* kSseContentType = "text/event-stream";

}  // namespace sluice
