// Asking an open engine one question and showing the answer as it comes: what `run` and `chat`
// share.
#pragma once

#include <functional>
#include <string>

#include "sluice/engine.h"

namespace sluice {

/// Ctrl-C while one of these lives sets a flag instead of ending the program; the previous handler
/// comes back with its end.
class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;
  /// True once after each Ctrl-C.
  static bool Taken();
  /// Waits until `fd` can be read, or is at its end: true. False if Ctrl-C came first, also just
  /// before the wait; it is then taken.
  static bool WaitToRead(int fd);
};

/// Submits and waits; `show` sees every event on the calling thread. Ctrl-C (inside an
/// InterruptScope) cancels the request, and the result then ends with an abort reason.
Result<GenerateResult> StreamAnswer(Engine& engine, GenerateRequest request,
                                    const std::function<void(const GenerateEvent&)>& show);

/// "12 + 80 tokens, first after 0.05 s, 123.4 tokens/s".
std::string DescribeTiming(const GenerateResult& result, double first_token_seconds);

}  // namespace sluice
