// Making and passing on errors. The types themselves are public: include/sluice/status.h.
#pragma once

#include <fmt/core.h>

#include "sluice/status.h"

namespace sluice {

/// A failed Status with a formatted message.
template <class... Args>
Status Error(Code code, fmt::format_string<Args...> format, Args&&... args) {
  return Status(code, fmt::format(format, std::forward<Args>(args)...));
}

/// The same, naming the request field (or flag) at fault.
template <class... Args>
Status ParamError(Code code, std::string_view param, fmt::format_string<Args...> format,
                  Args&&... args) {
  return Status(code, fmt::format(format, std::forward<Args>(args)...), std::string(param));
}

/// At most `bytes_max` bytes of hostile text, made printable: control characters, quotes and bytes
/// that are not UTF-8 become escapes, and a cut is marked by "...". For use in error messages.
std::string Quoted(std::string_view text, size_t bytes_max = 80);

}  // namespace sluice

#define SLUICE_CONCAT_(a, b) a##b
#define SLUICE_CONCAT(a, b) SLUICE_CONCAT_(a, b)

/// TRY(auto file, Open(path)): declares `file` from a Result's value, or returns its Status.
#define TRY(declaration, expression) \
  SLUICE_TRY_(SLUICE_CONCAT(try_result_, __LINE__), declaration, expression)
#define SLUICE_TRY_(result, declaration, expression) \
  auto result = (expression);                        \
  if (!result.ok()) [[unlikely]]                     \
    return result.status();                          \
  declaration = std::move(*result)

/// Returns the Status of `expression` if it is an error.
#define RETURN_IF_ERROR(expression)                       \
  do {                                                    \
    ::sluice::Status status_of_expression = (expression); \
    if (!status_of_expression.ok()) [[unlikely]]          \
      return status_of_expression;                        \
  } while (false)
