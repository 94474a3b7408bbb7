// Broken invariants of ours. Nothing that a client or a file says may reach a CHECK.
#pragma once

#include <fmt/core.h>

namespace sluice::internal {
[[noreturn]] void CheckFailed(const char* file, int line, const std::string& what);
}  // namespace sluice::internal

/// Stops the process, in release builds too, before it can answer wrongly.
#define CHECK(condition)                                                                \
  do {                                                                                  \
    if (!(condition)) [[unlikely]]                                                      \
      ::sluice::internal::CheckFailed(__FILE__, __LINE__, "CHECK failed: " #condition); \
  } while (false)

#define SLUICE_CHECK_OP_(a, op, b)                                                                 \
  do {                                                                                             \
    const auto& check_left = (a);                                                                  \
    const auto& check_right = (b);                                                                 \
    if (!(check_left op check_right)) [[unlikely]]                                                 \
      ::sluice::internal::CheckFailed(                                                             \
          __FILE__, __LINE__,                                                                      \
          fmt::format("CHECK failed: " #a " " #op " " #b " ({} vs {})", check_left, check_right)); \
  } while (false)

#define CHECK_EQ(a, b) SLUICE_CHECK_OP_(a, ==, b)
#define CHECK_NE(a, b) SLUICE_CHECK_OP_(a, !=, b)
#define CHECK_LE(a, b) SLUICE_CHECK_OP_(a, <=, b)
#define CHECK_LT(a, b) SLUICE_CHECK_OP_(a, <, b)
#define CHECK_GE(a, b) SLUICE_CHECK_OP_(a, >=, b)
#define CHECK_GT(a, b) SLUICE_CHECK_OP_(a, >, b)

/// A hot loop's assumption: on in debug and sanitizer builds.
#ifdef SLUICE_DCHECKS
#define DCHECK(condition) CHECK(condition)
#else
#define DCHECK(condition)    \
  do {                       \
    (void)sizeof(condition); \
  } while (false)
#endif
