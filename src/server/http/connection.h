// One TCP connection: reads requests in order, serves one at a time, writes its answer. Internal to
// server/http; everything here runs on the I/O thread, except for what ExchangeImpl says.
#pragma once

#include <array>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <map>
#include <memory>
#include <mutex>

#include "server/http/http_server.h"

namespace sluice {

class Connection;

/// What all connections share.
struct HttpContext {
  HttpServerOptions options;
  HttpHandler* handler = nullptr;
  std::atomic<int64_t> active_requests{0};
  std::atomic<int64_t> open_connections{0};
  std::atomic<bool> keep_alive{true};
  std::map<boost::asio::ip::address, int64_t> connections_by_address;
  std::array<char, 64 * 1024> scratch;  // every read lands here first: idle connections own nothing
  double last_not_http_log_seconds = -1e9;
  boost::asio::io_context io{1};  // last: it destroys the connections, which use what is above
};

/// The thread-safe face of a request in progress.
class ExchangeImpl final : public Exchange, public std::enable_shared_from_this<ExchangeImpl> {
 public:
  /// `close`: the connection ends after this answer.
  ExchangeImpl(std::weak_ptr<Connection> connection, HttpContext& context, HttpRequest request,
               bool close);

  const HttpRequest& request() const override { return request_; }
  std::string TakeBody() override { return std::move(request_.body); }
  void Respond(HttpResponse response) override;
  void StartStream(std::string content_type, HttpFields fields) override;
  void Write(std::string bytes) override;
  void EndStream() override;
  bool writable() const override;
  void Watch(std::function<void()> on_disconnect, std::function<void()> on_drain) override;

 private:
  friend class Connection;
  /// Hands bytes to the connection, on its thread. What is posted before that thread comes to it
  /// travels together: one wake-up and one write for several frames.
  void Post(std::string bytes, bool last, int status, bool close);
  void Deliver();
  std::string Head(int status, std::string_view content_type, const HttpFields& fields,
                   std::optional<size_t> body_bytes, bool keep_alive) const;
  /// Called by the connection: the peer is gone, or the answer is complete.
  void Close(bool disconnected);
  void Drained();

  const std::weak_ptr<Connection> connection_;  // which owns the exchange while it is open
  HttpContext& context_;
  HttpRequest request_;
  const bool close_;
  std::atomic<size_t> unsent_bytes_{0};
  std::atomic<bool> stream_chunked_{false};
  std::atomic<bool> answered_{false};
  struct Outgoing {
    std::string bytes;
    bool last = false, close = false;
    int status = 0;
  };
  std::mutex mutex_;  // of what follows
  Outgoing outgoing_;
  bool posted_ = false;  // Deliver is under way
  bool closed_ = false, disconnected_ = false;
  std::function<void()> on_disconnect_, on_drain_;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(boost::asio::ip::tcp::socket socket, HttpContext& context);
  /// On the I/O thread, or with the server, whose stop leaves exchanges open.
  ~Connection();
  void Start();

 private:
  friend class ExchangeImpl;
  using Awaitable = boost::asio::awaitable<bool>;

  boost::asio::awaitable<void> Run();
  /// Each reads on until its part is there; false: end the connection (answered, if need be).
  Awaitable ServeOne();
  Awaitable ReadHead(HeadScanner& scanner);
  Awaitable ReadBody(const HeadFrame& frame, HttpRequest& request);
  Awaitable ReadMore(size_t bytes_max);
  // A refusal is kept in a member, not passed: GCC 12 destroys temporaries of a co_await expression
  // twice.
  void Refuse(int status, std::string message);
  Awaitable AnswerRefusal();
  boost::asio::awaitable<void> Answer(HttpRequest request, std::optional<HttpResponse> early);
  boost::asio::awaitable<void> Linger();

  /// Takes the connection out of the books. Not in the destructor: a handler that ran last may hold
  /// the connection a little longer.
  void Leave();
  void LogNotHttp(const char* what);
  void SetDeadline(double seconds);
  void ClearDeadline();
  void OnDeadline();

  // While an exchange is open:
  void Monitor();
  void PollHangup();
  void Send(ExchangeImpl& exchange, std::string bytes, bool last, int status, bool close);
  void StartWrite();
  void OnWritten(size_t bytes);
  void Abandon(const char* why);
  void EndExchange();

  boost::asio::ip::tcp::socket socket_;
  HttpContext& context_;
  boost::asio::ip::address address_;
  boost::asio::steady_timer deadline_, done_, poll_;
  uint64_t deadline_generation_ = 0;
  bool timed_out_ = false;

  std::string input_;  // read, not consumed
  HttpRefusal refusal_;
  bool close_after_ = false;
  bool left_ = false;
  int64_t served_ = 0;

  std::shared_ptr<ExchangeImpl> exchange_;
  uint64_t exchange_generation_ = 0;
  std::deque<std::string> output_;
  size_t output_offset_ = 0;  // bytes of the front that are already written
  bool writing_ = false, last_sent_ = false, stalled_ = false;
  int status_ = 0;
};

/// "Sat, 21 Nov 2026 18:00:00 GMT", of this second. I/O thread or any other.
std::string HttpDate();

}  // namespace sluice
