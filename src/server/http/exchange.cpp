#include <fmt/core.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <ctime>
#include <utility>

#include "server/http/connection.h"

namespace sluice {
namespace {

constexpr size_t kRequestIdBytesMax = 128;

bool IsPlainVisible(std::string_view value) {
  return !value.empty() && value.size() <= kRequestIdBytesMax &&
         std::all_of(value.begin(), value.end(),
                     [](unsigned char c) { return c > 0x20 && c < 0x7F; });
}

}  // namespace

std::string HttpDate() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                            "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  return fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", kDays[parts.tm_wday], parts.tm_mday,
                     kMonths[parts.tm_mon], parts.tm_year + 1900, parts.tm_hour, parts.tm_min,
                     parts.tm_sec);
}

ExchangeImpl::ExchangeImpl(std::weak_ptr<Connection> connection, HttpContext& context,
                           HttpRequest request, bool close)
    : connection_(std::move(connection)),
      context_(context),
      request_(std::move(request)),
      close_(close) {}

std::string ExchangeImpl::Head(int status, std::string_view content_type, const HttpFields& fields,
                               std::optional<size_t> body_bytes, bool keep_alive) const {
  std::string head = fmt::format("HTTP/1.1 {} {}\r\nDate: {}\r\nServer: sluice\r\n", status,
                                 ReasonPhrase(status), HttpDate());
  if (!content_type.empty()) head += fmt::format("Content-Type: {}\r\n", content_type);
  if (body_bytes) {
    if (status != 204) head += fmt::format("Content-Length: {}\r\n", *body_bytes);
  } else if (request_.minor_version == 1) {
    head += "Transfer-Encoding: chunked\r\n";
  }
  for (const auto& [name, value] : fields) head += fmt::format("{}: {}\r\n", name, value);
  if (!request_.Field("Origin").empty()) head += "Access-Control-Allow-Origin: *\r\n";
  const std::string_view request_id = request_.Field("X-Request-ID");
  if (IsPlainVisible(request_id)) head += fmt::format("X-Request-ID: {}\r\n", request_id);
  if (!keep_alive) {
    head += "Connection: close\r\n";
  } else if (request_.minor_version == 0) {
    head += "Connection: keep-alive\r\n";
  }
  return head + "\r\n";
}

void ExchangeImpl::Respond(HttpResponse response) {
  if (answered_.exchange(true)) return;
  const bool close = response.close || close_ || !context_.keep_alive;
  std::string bytes =
      Head(response.status, response.content_type, response.fields, response.body.size(), !close);
  if (request_.method != "HEAD" && response.status != 204) bytes += response.body;
  Post(std::move(bytes), true, response.status, close);
}

void ExchangeImpl::StartStream(std::string content_type, HttpFields fields) {
  if (answered_.exchange(true)) return;
  const bool chunked = request_.minor_version == 1;
  stream_chunked_ = chunked;
  const bool close = close_ || !context_.keep_alive || !chunked;
  Post(Head(200, content_type, fields, std::nullopt, !close), false, 200, close);
}

void ExchangeImpl::Write(std::string bytes) {
  if (bytes.empty()) return;  // an empty chunk would end the body
  if (stream_chunked_) bytes = fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes);
  Post(std::move(bytes), false, 200, false);
}

void ExchangeImpl::EndStream() { Post(stream_chunked_ ? "0\r\n\r\n" : "", true, 200, false); }

bool ExchangeImpl::writable() const {
  return unsent_bytes_.load() <= context_.options.limits.unsent_bytes_max;
}

void ExchangeImpl::Post(std::string bytes, bool last, int status, bool close) {
  unsent_bytes_.fetch_add(bytes.size());
  {
    const std::lock_guard lock(mutex_);
    if (outgoing_.bytes.empty())
      outgoing_.bytes = std::move(bytes);
    else
      outgoing_.bytes += bytes;
    outgoing_.last |= last;
    outgoing_.close |= close;
    if (outgoing_.status == 0) outgoing_.status = status;
    if (std::exchange(posted_, true)) return;
  }
  boost::asio::post(context_.io, [self = shared_from_this()] { self->Deliver(); });
}

void ExchangeImpl::Deliver() {
  Outgoing now;
  {
    const std::lock_guard lock(mutex_);
    now = std::exchange(outgoing_, Outgoing());
    posted_ = false;
  }
  if (const auto connection = connection_.lock())
    connection->Send(*this, std::move(now.bytes), now.last, now.status, now.close);
}

void ExchangeImpl::Watch(std::function<void()> on_disconnect, std::function<void()> on_drain) {
  {
    const std::lock_guard lock(mutex_);
    if (!closed_) {
      on_disconnect_ = std::move(on_disconnect);
      on_drain_ = std::move(on_drain);
      return;
    }
    if (!disconnected_) return;
  }
  on_disconnect();
}

void ExchangeImpl::Close(bool disconnected) {
  std::function<void()> on_disconnect, on_drain;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    disconnected_ = disconnected;
    on_disconnect = std::move(on_disconnect_);
    on_drain = std::move(on_drain_);  // destroyed below, outside the lock
    on_disconnect_ = on_drain_ = nullptr;
  }
  if (disconnected && on_disconnect) on_disconnect();
}

void ExchangeImpl::Drained() {
  std::function<void()> on_drain;
  {
    const std::lock_guard lock(mutex_);
    on_drain = on_drain_;
  }
  if (on_drain) on_drain();
}

}  // namespace sluice
