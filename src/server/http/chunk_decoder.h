// Decodes a chunked request body (RFC 9112 section 7.1) as its bytes arrive, strictly: CRLF only,
// hexadecimal sizes without sign or space, short extensions, few trailers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "server/http/head_scanner.h"

namespace sluice {

struct ChunkLimits {
  uint64_t body_bytes_max = uint64_t{64} << 20;  // above: 413
  size_t extension_bytes_max = 256;              // of one chunk's size line; above: 400
  size_t trailer_bytes_max = 8 * 1024;           // all trailers; above: 431
  size_t trailer_count_max = 32;                 // above: 431
};

class ChunkDecoder {
 public:
  enum class State { kNeedMore, kDone, kRefused };

  explicit ChunkDecoder(const ChunkLimits& limits = {}) : limits_(limits) {}

  /// Consumes from the front of `input`, appends data to `body`. Once done, the rest of `input`
  /// belongs to the next request. Trailers are checked and dropped.
  State Advance(std::string_view& input, std::string& body);

  const HttpRefusal& refusal() const { return refusal_; }

 private:
  enum class Part {
    kSize,
    kExtension,
    kSizeLf,
    kData,
    kDataCr,
    kDataLf,
    kTrailerStart,
    kTrailer,
    kTrailerLf,
    kEndLf,
  };
  State Refuse(int status, std::string message);
  State Byte(unsigned char byte);
  State SizeByte(unsigned char byte);
  State TrailerByte(unsigned char byte);

  const ChunkLimits limits_;
  HttpRefusal refusal_;
  State state_ = State::kNeedMore;
  Part part_ = Part::kSize;
  uint64_t chunk_bytes_ = 0;  // still to come of this chunk
  int size_digits_ = 0;
  size_t extension_bytes_ = 0, trailer_bytes_ = 0, trailer_count_ = 0;
  bool trailer_has_colon_ = false;
  uint64_t body_bytes_ = 0;
};

}  // namespace sluice
