#include "cli/http_client.h"

#include <poll.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>

namespace sluice {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;
using boost::asio::ip::tcp;

constexpr uint64_t kAnswerBytesMax = 256 << 20;
constexpr size_t kReadBytes = 64 << 10;

/// False: nothing came in time. Asio's blocking reads know no time limit, and end with an error
/// where a signal interrupts them.
bool WaitToRead(int fd, int timeout_seconds) {
  pollfd source{fd, POLLIN, 0};
  int ready;
  do ready = poll(&source, 1, timeout_seconds * 1000);
  while (ready < 0 && errno == EINTR);
  return ready != 0;
}

}  // namespace

Result<HttpClient> HttpClient::To(std::string_view url) {
  const Status wrong = ParamError(Code::kInvalidArgument, "url",
                                  "url is {}, allowed is http://HOST:PORT", Quoted(url));
  constexpr std::string_view kScheme = "http://";
  if (!url.starts_with(kScheme)) return wrong;
  url.remove_prefix(kScheme.size());
  while (url.ends_with('/')) url.remove_suffix(1);
  const size_t colon = url.rfind(':');
  HttpClient client;
  client.host_ = url.substr(0, colon);
  client.port_ = colon == url.npos ? "80" : url.substr(colon + 1);
  if (client.host_.empty() || client.port_.empty() ||
      client.port_.find_first_not_of("0123456789") != std::string::npos)
    return wrong;
  return client;
}

Result<HttpAnswer> HttpClient::Post(const std::string& path, const std::string& json,
                                    int timeout_seconds) const {
  return Send(true, path, json, timeout_seconds);
}

Result<HttpAnswer> HttpClient::Get(const std::string& path, int timeout_seconds) const {
  return Send(false, path, "", timeout_seconds);
}

Result<HttpAnswer> HttpClient::Send(bool post, const std::string& path, const std::string& json,
                                    int timeout_seconds) const {
  boost::asio::io_context context;
  boost::system::error_code error;
  const auto endpoints = tcp::resolver(context).resolve(host_, port_, error);
  tcp::socket socket(context);
  if (!error) boost::asio::connect(socket, endpoints, error);
  if (error) return Error(Code::kNotFound, "http://{}:{}: {}", host_, port_, error.message());

  http::request<http::string_body> request{post ? http::verb::post : http::verb::get, path, 11};
  request.set(http::field::host, host_);
  request.set(http::field::connection, "close");
  if (post) {
    request.set(http::field::content_type, "application/json");
    request.body() = json;
  }
  request.prepare_payload();
  http::write(socket, request, error);
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(kAnswerBytesMax);
  parser.eager(true);
  while (!error && !parser.is_done()) {
    if (!WaitToRead(socket.native_handle(), timeout_seconds))
      return Error(Code::kInternal, "http://{}:{}{}: no answer for {} s", host_, port_, path,
                   timeout_seconds);
    buffer.commit(socket.read_some(buffer.prepare(kReadBytes), error));
    if (error == boost::asio::error::eof) {
      error = {};
      parser.put_eof(error);
      break;
    }
    if (!error) buffer.consume(parser.put(buffer.data(), error));
    if (error == http::error::need_more) error = {};
  }
  if (error)
    return Error(Code::kInternal, "http://{}:{}{}: {}", host_, port_, path, error.message());
  return HttpAnswer{static_cast<int>(parser.get().result_int()), std::move(parser.get().body())};
}

}  // namespace sluice
