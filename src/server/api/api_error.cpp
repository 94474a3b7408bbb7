#include "server/api/api_error.h"

#include <iterator>

#include "server/json/json_writer.h"

namespace sluice {
namespace {

struct StatusRow {
  Code code;
  int http;
  const char* type;
  const char* name;
  int retry_after_seconds;
};

// clang-format off
constexpr StatusRow kStatusRows[] = {
    // code                  http  type                       name                          retry
    {Code::kInvalidArgument,  400, "BadRequestError",         "invalid_value",              0},
    {Code::kMissingParameter, 400, "BadRequestError",         "missing_required_parameter", 0},
    {Code::kUnsupported,      400, "BadRequestError",         "unsupported_parameter",      0},
    {Code::kContextLength,    400, "BadRequestError",         "context_length_exceeded",    0},
    {Code::kDuplicateId,      400, "BadRequestError",         "duplicate_request_id",       0},
    {Code::kNotFound,         404, "NotFoundError",           "not_found",                  0},
    {Code::kTooLarge,         413, "BadRequestError",         "request_too_large",          0},
    {Code::kQueueFull,        429, "RateLimitError",          "queue_full",                 1},
    {Code::kCancelled,        499, "BadRequestError",         "request_cancelled",          0},
    {Code::kInternal,         500, "InternalServerError",     "internal_error",             0},
    {Code::kNumericFault,     500, "InternalServerError",     "numeric_fault",              0},
    {Code::kBadCheckpoint,    500, "InternalServerError",     "internal_error",             0},
    {Code::kQueueTimeout,     503, "ServiceUnavailableError", "queue_timeout",              1},
    {Code::kNotReady,         503, "ServiceUnavailableError", "not_ready",                  1},
    {Code::kDraining,         503, "ServiceUnavailableError", "draining",                   1},
    {Code::kOutOfMemory,      503, "ServiceUnavailableError", "out_of_kv",                  1},
};

struct HttpRow {
  int http;
  const char* type;
  const char* name;
};

constexpr HttpRow kHttpRows[] = {
    {403, "PermissionDeniedError",   "host_not_allowed"},
    {404, "NotFoundError",           "not_found"},
    {405, "BadRequestError",         "method_not_allowed"},
    {408, "BadRequestError",         "request_timeout"},
    {413, "BadRequestError",         "request_too_large"},
    {414, "BadRequestError",         "uri_too_long"},
    {431, "BadRequestError",         "headers_too_large"},
    {500, "InternalServerError",     "internal_error"},
    {501, "BadRequestError",         "not_implemented"},
    {503, "ServiceUnavailableError", "not_ready"},
};
// clang-format on

void WriteFields(JsonWriter& json, const ApiError& error, bool integer_code) {
  json.Key("message").String(error.message).Key("type").String(error.type).Key("param");
  error.param.empty() ? json.Null() : json.String(error.param);
  json.Key("code");
  integer_code ? json.Int(error.http) : json.String(error.code);
}

}  // namespace

/// Codes that are narrower than a Status.
static const char* NarrowCode(const Status& status, const char* name) {
  if (status.code() == Code::kNotFound && status.param() == "model") return "model_not_found";
  if (status.message().starts_with("chat template missing")) return "chat_template_missing";
  return name;
}

ApiError ToApiError(const Status& status) {
  for (const StatusRow& row : kStatusRows)
    if (row.code == status.code())
      return {row.http,         row.type,       NarrowCode(status, row.name),
              status.message(), status.param(), row.retry_after_seconds};
  return {500, "InternalServerError", "internal_error", status.message(), status.param(), 0};
}

ApiError HttpError(int http, std::string message) {
  for (const HttpRow& row : kHttpRows)
    if (row.http == http) return {http, row.type, row.name, std::move(message), "", 0};
  return {http, "BadRequestError", "invalid_value", std::move(message), "", 0};
}

std::string StreamErrorBody(const ApiError& error) {
  JsonWriter json;
  json.BeginObject().Key("error").BeginObject();
  WriteFields(json, error, false);
  json.EndObject().EndObject();
  return json.Take();
}

std::string ErrorBody(const ApiError& error) {
  JsonWriter json;
  json.BeginObject().Key("error").BeginObject();
  WriteFields(json, error, false);
  json.EndObject().Key("object").String("error");
  WriteFields(json, error, true);
  json.EndObject();
  return json.Take();
}

HttpResponse ErrorResponse(const ApiError& error) {
  HttpResponse response;
  response.status = error.http;
  response.body = ErrorBody(error);
  if (error.retry_after_seconds > 0)
    response.fields.emplace_back("Retry-After", std::to_string(error.retry_after_seconds));
  return response;
}

}  // namespace sluice
