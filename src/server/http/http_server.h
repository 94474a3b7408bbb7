// HTTP/1.1 over TCP: one I/O thread, any number of connections, one request at a time on each.
//
// Reading goes head scanner -> Beast -> body decoder; what breaks a framing rule or a limit is
// answered and the connection closed. Half-closing counts as going away: a client that shuts down
// its sending side while it waits is not served further, as with most proxies.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/status.h"
#include "server/http/chunk_decoder.h"
#include "server/http/head_scanner.h"
#include "server/http/message.h"

namespace sluice {

struct HttpLimits {
  HeadLimits head;
  ChunkLimits body;  // body.body_bytes_max holds for Content-Length, too
  int64_t connections_max = 16384;
  int64_t connections_per_address_max = 1024;
  int64_t requests_per_connection_max = 1000;
  double head_seconds_max = 10;   // absolute, from the head's first byte
  double body_seconds_base = 30;  // absolute: this, plus 1 s per body_bytes_per_second
  double body_bytes_per_second = 64 * 1024;
  double keep_alive_seconds = 75;
  size_t read_ahead_bytes_max = 64 * 1024;  // of later requests, while one is served
  size_t unsent_bytes_max = 256 * 1024;     // then a stream is not writable
  double stalled_seconds_max = 30;          // not writable for so long: cancelled
  double linger_seconds = 2;                // after an answer that ends the connection
};

struct HttpServerOptions {
  std::string host = "127.0.0.1";
  int port = 0;  // 0: any free one
  HttpLimits limits;
};

/// What the server asks of the program behind it. All calls come from the I/O thread and must not
/// block; answers may come from any thread.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  /// Looks at the head before the body is read; an answer here spares the body.
  virtual std::optional<HttpResponse> Precheck(const HttpRequest& head) = 0;
  virtual void Handle(std::shared_ptr<Exchange> exchange) = 0;
  /// The answer to a request that broke a rule of HTTP.
  virtual HttpResponse Refusal(int status, const std::string& message) = 0;
  /// Called once per answered or abandoned request; 499: the peer went away. `request` is null
  /// where there was no valid head.
  virtual void Completed(const HttpRequest* request, int status) = 0;
};

class HttpServer {
 public:
  /// Listens at once. Errors: kInvalidArgument for an address that does not resolve or is in use.
  /// `handler` must outlive the server.
  static Result<std::unique_ptr<HttpServer>> Start(const HttpServerOptions& options,
                                                   HttpHandler& handler);
  virtual ~HttpServer() = default;  // stops, and closes what is open

  virtual int port() const = 0;
  /// "http://127.0.0.1:30000"
  virtual std::string url() const = 0;
  /// Requests that are being read or answered.
  virtual int64_t active_requests() const = 0;
  virtual int64_t open_connections() const = 0;
  /// From now on every answer ends its connection.
  virtual void StopKeepAlive() = 0;
  /// Ends the I/O thread: the handler is not called any more. Exchanges that are still held by
  /// others must be gone before the server is destroyed.
  virtual void Stop() = 0;
};

}  // namespace sluice
