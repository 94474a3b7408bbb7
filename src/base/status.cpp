#include "base/status.h"

namespace sluice {

std::string_view CodeName(Code code) {
  switch (code) {
    case Code::kOk: return "ok";
    case Code::kInvalidArgument: return "invalid_argument";
    case Code::kMissingParameter: return "missing_parameter";
    case Code::kUnsupported: return "unsupported";
    case Code::kContextLength: return "context_length";
    case Code::kTooLarge: return "too_large";
    case Code::kNotFound: return "not_found";
    case Code::kDuplicateId: return "duplicate_id";
    case Code::kBadCheckpoint: return "bad_checkpoint";
    case Code::kQueueFull: return "queue_full";
    case Code::kQueueTimeout: return "queue_timeout";
    case Code::kNotReady: return "not_ready";
    case Code::kDraining: return "draining";
    case Code::kOutOfMemory: return "out_of_memory";
    case Code::kNumericFault: return "numeric_fault";
    case Code::kCancelled: return "cancelled";
    case Code::kInternal: return "internal";
  }
  return "unknown";
}

std::string Quoted(std::string_view text, size_t bytes_max) {
  std::string out = "\"";
  const bool cut = text.size() > bytes_max;
  size_t end = cut ? bytes_max : text.size();
  // Never cut inside a UTF-8 character: step back over continuation bytes.
  while (cut && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  for (size_t i = 0; i < end;) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte == '"' || byte == '\\') {
      out += '\\';
      out += text[i++];
    } else if (byte >= 0x20 && byte < 0x7F) {
      out += text[i++];
    } else {
      const size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC2 ? 2 : 0;
      bool valid = length > 0 && byte < 0xF5 && i + length <= end;
      for (size_t j = 1; valid && j < length; ++j)
        valid = (static_cast<unsigned char>(text[i + j]) & 0xC0) == 0x80;
      if (valid) {
        out.append(text.substr(i, length));
        i += length;
      } else {
        out += fmt::format("\\x{:02x}", byte);
        ++i;
      }
    }
  }
  out += cut ? "\"..." : "\"";
  return out;
}

}  // namespace sluice
