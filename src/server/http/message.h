// One HTTP request and its answer, as the routes see them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice {

using HttpFields = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;  // as sent: "GET", "POST", ...
  std::string path;    // percent-encoded as sent, without query; "*" for OPTIONS *
  std::string query;   // without '?'
  int minor_version = 1;
  bool keep_alive = true;
  HttpFields fields;
  std::string body;
  double received_seconds = 0;  // MonotonicSeconds() when the head was complete

  /// The first field of that name (any case), or empty.
  std::string_view Field(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  HttpFields fields =
      {};              // further ones; the server adds length, date, connection, CORS, request id
  bool close = false;  // end the connection after this answer
};

/// One request on a connection and the way to answer it. Thread-safe. Exactly one of Respond or
/// (StartStream ... EndStream) is called; what comes after a disconnect is dropped.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual const HttpRequest& request() const = 0;

  /// Moves the body out of the request.
  virtual std::string TakeBody() = 0;

  virtual void Respond(HttpResponse response) = 0;

  /// Sends status 200 and the fields; then each Write goes out as soon as the socket takes it.
  virtual void StartStream(std::string content_type, HttpFields fields) = 0;
  virtual void Write(std::string bytes) = 0;
  virtual void EndStream() = 0;

  /// False while more than the unsent-output limit waits for the peer: write no more then, and wait
  /// for the drain callback.
  virtual bool writable() const = 0;

  /// `on_disconnect` is called once, on the I/O thread, if the peer goes away (or reads too slowly)
  /// before the answer is complete; at once if it already has. `on_drain` is called on the I/O
  /// thread each time the output becomes writable again. Both are dropped at the end of the
  /// exchange.
  virtual void Watch(std::function<void()> on_disconnect, std::function<void()> on_drain) = 0;
};

/// "OK" for 200 and so on.
std::string_view ReasonPhrase(int status);

}  // namespace sluice
