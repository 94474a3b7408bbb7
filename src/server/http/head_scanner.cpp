#include "server/http/head_scanner.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/status.h"

namespace sluice {
namespace {

constexpr size_t kMethodBytesMax = 32;
constexpr int kEmptyLinesMax = 2;  // some old clients send CRLF after a body
constexpr std::string_view kHttp2Preface = "PRI * HTTP/2.0";

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

std::string_view Trim(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

bool IsTokenChar(unsigned char c) {
  if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return true;
  return c != 0 &&
         std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos;
}

bool EqualsIgnoreCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return Lower(x) == Lower(y); });
}

HeadScanner::State HeadScanner::Refuse(int status, std::string message) {
  refusal_ = {status, std::move(message)};
  return state_ = State::kRefused;
}

HeadScanner::State HeadScanner::Advance(std::string_view buffer) {
  if (state_ != State::kNeedMore) return state_;
  if (!buffer.empty() && buffer[0] == 0x16) return state_ = State::kTls;
  if (buffer.starts_with(kHttp2Preface)) return state_ = State::kHttp2;
  while (state_ == State::kNeedMore && scanned_ < buffer.size()) {
    const auto byte = static_cast<unsigned char>(buffer[scanned_]);
    const bool after_cr = scanned_ > line_begin_ && buffer[scanned_ - 1] == '\r';
    if (after_cr && byte != '\n')
      return Refuse(400, "a CR in the request head is not followed by LF");
    if (byte == '\n') {
      if (!after_cr) return Refuse(400, "a line of the request head ends in LF without CR");
      const size_t next = scanned_ + 1;
      EndLine(buffer.substr(line_begin_, scanned_ - 1 - line_begin_), next);
      line_begin_ = scanned_ = next;
      continue;
    }
    if ((byte < 0x20 && byte != '\t' && byte != '\r') || byte == 0x7F)
      return Refuse(400, fmt::format("the request head holds the control byte 0x{:02x}", byte));
    ++scanned_;
    if (!has_request_line_ && scanned_ - line_begin_ > limits_.request_line_bytes_max)
      return Refuse(414, fmt::format("the request line is longer than {} bytes",
                                     limits_.request_line_bytes_max));
    if (has_request_line_ && scanned_ - fields_begin_ > limits_.fields_bytes_max)
      return Refuse(
          431, fmt::format("the header fields are longer than {} bytes", limits_.fields_bytes_max));
  }
  return state_;
}

HeadScanner::State HeadScanner::EndLine(std::string_view line, size_t next) {
  if (!has_request_line_) {
    if (line.empty()) {
      if (++empty_lines_ > kEmptyLinesMax) return Refuse(400, "empty lines instead of a request");
      frame_.begin = next;
      return state_;
    }
    has_request_line_ = true;
    fields_begin_ = next;
    return RequestLine(line);
  }
  if (line.empty()) {
    frame_.end = next;
    return EndHead();
  }
  if (++field_count_ > limits_.field_count_max)
    return Refuse(431, fmt::format("more than {} header fields", limits_.field_count_max));
  return FieldLine(line);
}

HeadScanner::State HeadScanner::RequestLine(std::string_view line) {
  const size_t method_end = line.find(' ');
  const size_t target_end = line.rfind(' ');
  if (method_end == std::string_view::npos || target_end == method_end)
    return Refuse(400, "the request line is not 'METHOD target HTTP/1.1'");
  const std::string_view method = line.substr(0, method_end);
  const std::string_view target = line.substr(method_end + 1, target_end - method_end - 1);
  const std::string_view version = line.substr(target_end + 1);
  if (method.empty() || method.size() > kMethodBytesMax ||
      !std::all_of(method.begin(), method.end(), [](char c) { return IsTokenChar(c); }))
    return Refuse(400, fmt::format("bad method {}", Quoted(method)));
  if (target.empty() || !std::all_of(target.begin(), target.end(),
                                     [](unsigned char c) { return c > 0x20 && c < 0x7F; }))
    return Refuse(400, fmt::format("bad request target {}", Quoted(target)));
  if (version.size() != 8 || !version.starts_with("HTTP/") || !IsDigit(version[5]) ||
      version[6] != '.' || !IsDigit(version[7]))
    return Refuse(400, fmt::format("bad HTTP version {}", Quoted(version)));
  if (version[5] != '1' || version[7] > '1')
    return Refuse(505,
                  fmt::format("{} is not supported, only HTTP/1.1 and HTTP/1.0", Quoted(version)));
  frame_.minor_version = version[7] - '0';
  return state_;
}

HeadScanner::State HeadScanner::FieldLine(std::string_view line) {
  if (line[0] == ' ' || line[0] == '\t') return Refuse(400, "folded header lines are not allowed");
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos)
    return Refuse(400, fmt::format("header line {} has no colon", Quoted(line)));
  const std::string_view name = line.substr(0, colon);
  if (name.empty() || !std::all_of(name.begin(), name.end(), [](char c) { return IsTokenChar(c); }))
    return Refuse(400, fmt::format("bad header name {}", Quoted(name)));
  const std::string_view value = Trim(line.substr(colon + 1));
  if (value.find('\r') != std::string_view::npos) return Refuse(400, "a header value holds a CR");
  if (EqualsIgnoreCase(name, "host")) return Host(value);
  if (EqualsIgnoreCase(name, "content-length")) return ContentLength(value);
  if (EqualsIgnoreCase(name, "transfer-encoding")) return TransferEncoding(value);
  if (EqualsIgnoreCase(name, "expect")) {
    if (!EqualsIgnoreCase(value, "100-continue"))
      return Refuse(417, fmt::format("Expect: {} is not supported", Quoted(value)));
    frame_.expects_continue = true;
  }
  return state_;
}

HeadScanner::State HeadScanner::Host(std::string_view value) {
  if (has_host_) return Refuse(400, "more than one Host header");
  has_host_ = true;
  const bool clean = std::all_of(value.begin(), value.end(), [](unsigned char c) {
    return IsDigit(static_cast<char>(c)) || (Lower(c) >= 'a' && Lower(c) <= 'z') || c >= 0x80 ||
           std::string_view("-._~:[]%!$&'()*+;=").find(static_cast<char>(c)) !=
               std::string_view::npos;
  });
  return clean ? state_ : Refuse(400, fmt::format("bad Host header {}", Quoted(value)));
}

HeadScanner::State HeadScanner::ContentLength(std::string_view value) {
  if (has_length_) return Refuse(400, "more than one Content-Length header");
  has_length_ = true;
  // 18 digits: below 2^63, and more than any body we would take.
  if (value.empty() || value.size() > 18 || !std::all_of(value.begin(), value.end(), IsDigit))
    return Refuse(400, fmt::format("bad Content-Length {}", Quoted(value)));
  for (const char c : value)
    frame_.content_length = frame_.content_length * 10 + static_cast<uint64_t>(c - '0');
  return state_;
}

HeadScanner::State HeadScanner::TransferEncoding(std::string_view value) {
  if (has_coding_) return Refuse(400, "more than one Transfer-Encoding header");
  has_coding_ = true;
  if (EqualsIgnoreCase(value, "chunked")) return state_;
  const bool one_coding = !value.empty() && std::all_of(value.begin(), value.end(),
                                                        [](char c) { return IsTokenChar(c); });
  return Refuse(one_coding ? 501 : 400,
                fmt::format("Transfer-Encoding {} is not supported, only chunked", Quoted(value)));
}

HeadScanner::State HeadScanner::EndHead() {
  if (frame_.minor_version == 1 && !has_host_) return Refuse(400, "the Host header is missing");
  if (has_coding_ && has_length_)
    return Refuse(400, "both Content-Length and Transfer-Encoding are present");
  if (has_coding_ && frame_.minor_version == 0)
    return Refuse(400, "Transfer-Encoding is not allowed in HTTP/1.0");
  if (has_coding_) frame_.framing = BodyFraming::kChunked;
  if (has_length_ && frame_.content_length > 0) frame_.framing = BodyFraming::kLength;
  if (frame_.minor_version == 0) frame_.expects_continue = false;
  return state_ = State::kDone;
}

}  // namespace sluice
