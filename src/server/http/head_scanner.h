// Checks the raw bytes of an HTTP/1.x request head before any library parses them.
//
// Lenient framing is how two programs come to disagree about where a request ends (RFC 9112 section
// 11.2). Boost.Beast 1.81 accepts folded lines, unknown transfer codings, chunked in HTTP/1.0,
// heads without Host and thousands of fields; this scanner refuses all of them first, and what it
// lets through has exactly one reading.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice {

struct HeadLimits {
  size_t request_line_bytes_max = 8 * 1024;  // above: 414
  size_t fields_bytes_max = 32 * 1024;       // all header lines together; above: 431
  size_t field_count_max = 100;              // above: 431
};

/// An answer of the HTTP layer itself; the connection is closed after it.
struct HttpRefusal {
  int status = 0;
  std::string message;
};

/// How the body's end is found.
enum class BodyFraming { kNone, kLength, kChunked };

/// What the head says about the message's frame.
struct HeadFrame {
  size_t begin = 0;  // after the empty lines that may precede a request
  size_t end = 0;    // of the head, after its empty line
  int minor_version = 1;
  BodyFraming framing = BodyFraming::kNone;
  uint64_t content_length = 0;  // with kLength
  bool expects_continue = false;
};

/// Scans one head as its bytes arrive, each byte once.
class HeadScanner {
 public:
  enum class State {
    kNeedMore,
    kDone,     // frame() is valid
    kRefused,  // refusal() is valid
    kTls,      // a TLS hello on a plain port
    kHttp2,    // the HTTP/2 connection preface
  };

  explicit HeadScanner(const HeadLimits& limits = {}) : limits_(limits) {}

  /// `buffer` holds the head from its first byte on; each call passes the same bytes and more.
  State Advance(std::string_view buffer);

  const HeadFrame& frame() const { return frame_; }
  const HttpRefusal& refusal() const { return refusal_; }

 private:
  State Refuse(int status, std::string message);
  State EndLine(std::string_view line, size_t next);
  State RequestLine(std::string_view line);
  State FieldLine(std::string_view line);
  State Host(std::string_view value);
  State ContentLength(std::string_view value);
  State TransferEncoding(std::string_view value);
  State EndHead();

  const HeadLimits limits_;
  HeadFrame frame_;
  HttpRefusal refusal_;
  State state_ = State::kNeedMore;
  size_t scanned_ = 0;  // bytes already checked
  size_t line_begin_ = 0;
  size_t fields_begin_ = 0;
  size_t field_count_ = 0;
  int empty_lines_ = 0;
  bool has_request_line_ = false, has_host_ = false, has_length_ = false, has_coding_ = false;
};

/// Whether `c` may stand in a method or a field name (RFC 9110 section 5.6.2).
bool IsTokenChar(unsigned char c);
/// ASCII only, as HTTP wants it.
bool EqualsIgnoreCase(std::string_view a, std::string_view b);

}  // namespace sluice
