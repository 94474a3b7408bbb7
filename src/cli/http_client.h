// A small blocking HTTP client for `sluice eval` and `sluice bench`: our own server on the other
// end.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace sluice {

struct HttpAnswer {
  int status = 0;
  std::string body;
};

/// "http://127.0.0.1:30000", without a path.
class HttpClient {
 public:
  /// Errors: kInvalidArgument for anything but http://host[:port].
  static Result<HttpClient> To(std::string_view url);

  /// One request on a connection of its own. Errors: kNotFound if nobody listens, kInternal if the
  /// connection breaks or nothing comes for `timeout_seconds`.
  Result<HttpAnswer> Post(const std::string& path, const std::string& json,
                          int timeout_seconds = 600) const;
  Result<HttpAnswer> Get(const std::string& path, int timeout_seconds = 30) const;

 private:
  Result<HttpAnswer> Send(bool post, const std::string& path, const std::string& json,
                          int timeout_seconds) const;
  std::string host_, port_;
};

}  // namespace sluice
