// Errors as clients see them: one table from our codes to HTTP, and one body that every known SDK
// reads (nested object with a string code, and the flat form with an integer code).
#pragma once

#include <string>

#include "base/status.h"
#include "server/http/message.h"

namespace sluice {

struct ApiError {
  int http = 500;
  std::string type;
  std::string code;  // string form: "invalid_value"
  std::string message;
  std::string param;            // or empty
  int retry_after_seconds = 0;  // 0: no header
};

ApiError ToApiError(const Status& status);
/// An error of the HTTP layer (framing, limits, routes), by its status code.
ApiError HttpError(int http, std::string message);

/// The whole body of an error answer.
std::string ErrorBody(const ApiError& error);
/// `{"error": {...}}`: a frame inside a stream.
std::string StreamErrorBody(const ApiError& error);
HttpResponse ErrorResponse(const ApiError& error);

}  // namespace sluice
