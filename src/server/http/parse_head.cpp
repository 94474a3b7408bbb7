#include "server/http/parse_head.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <limits>

#include "server/http/head_scanner.h"

namespace sluice {
namespace {

namespace http = boost::beast::http;

std::string ToString(boost::beast::string_view s) { return std::string(s.data(), s.size()); }

/// Splits "/path?query", "http://host/path?query" or "*".
Status SplitTarget(std::string_view target, HttpRequest& request) {
  const size_t scheme_end = target.find("://");
  if (!target.starts_with('/') && scheme_end != std::string_view::npos) {
    const std::string_view scheme = target.substr(0, scheme_end);
    if (!EqualsIgnoreCase(scheme, "http") && !EqualsIgnoreCase(scheme, "https"))
      return Error(Code::kInvalidArgument, "bad request target {}", Quoted(target));
    const size_t path_begin = target.find_first_of("/?", scheme_end + 3);
    target = path_begin == std::string_view::npos ? "/" : target.substr(path_begin);
  }
  const size_t query_begin = target.find('?');
  request.path = std::string(target.substr(0, query_begin));
  if (query_begin != std::string_view::npos)
    request.query = std::string(target.substr(query_begin + 1));
  if (request.path.empty()) request.path.push_back('/');
  if (request.path[0] != '/' && request.path != "*")
    return Error(Code::kInvalidArgument, "bad request target {}", Quoted(target));
  return Status();
}

}  // namespace

Result<HttpRequest> ParseHead(std::string_view head) {
  http::request_parser<http::empty_body> parser;
  parser.header_limit(std::numeric_limits<uint32_t>::max());  // the scanner has limited the head
  parser.body_limit(boost::none);                             // the body is not Beast's to read
  boost::beast::error_code error;
  const size_t used = parser.put(boost::asio::buffer(head.data(), head.size()), error);
  if (error == http::error::need_more) error = {};
  if (error || used != head.size() || !parser.is_header_done())
    return Error(Code::kInvalidArgument, "malformed request head ({})",
                 error ? error.message() : "incomplete");

  HttpRequest request;
  const auto& message = parser.get();
  request.method = ToString(message.method_string());
  request.minor_version = message.version() == 10 ? 0 : 1;
  request.keep_alive = message.keep_alive();
  for (const auto& field : message)
    request.fields.emplace_back(ToString(field.name_string()), ToString(field.value()));
  RETURN_IF_ERROR(
      SplitTarget(std::string_view(message.target().data(), message.target().size()), request));
  return request;
}

}  // namespace sluice
