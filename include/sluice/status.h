// What a call that can fail returns. Part of the public interface; src/base/status.h adds the
// helpers that the implementation uses (Error, TRY, RETURN_IF_ERROR).
#pragma once

#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace sluice {

/// What went wrong, by who can mend it. The server turns a code into an HTTP answer in one table.
enum class Code {
  kOk,
  kInvalidArgument,   // a request, flag or file says something that is not allowed
  kMissingParameter,  // a required field is absent
  kUnsupported,       // understood, but this build or model cannot do it
  kContextLength,     // prompt (plus requested tokens) exceeds the context
  kTooLarge,          // over a size limit
  kNotFound,          // unknown model, route, file or request
  kDuplicateId,       // a live request already has this id
  kBadCheckpoint,     // a model file is damaged or contradicts itself
  kQueueFull,         // refused: the queue is at its limit
  kQueueTimeout,      // waited in the queue longer than allowed
  kNotReady,          // loading
  kDraining,          // shutting down
  kOutOfMemory,       // memory, KV pages or state slots cannot hold it
  kNumericFault,      // logits were not finite
  kCancelled,         // the caller asked for it to stop
  kInternal,          // our mistake
};

std::string_view CodeName(Code code);

/// A code and a message; the message names the thing, the value found and the value allowed.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message, std::string param = {})
      : code_(code), message_(std::move(message)), param_(std::move(param)) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  /// The request field that is at fault, or empty.
  const std::string& param() const { return param_; }

 private:
  Code code_ = Code::kOk;
  std::string message_;
  std::string param_;
};

/// A value or the reason why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}         // NOLINT: implicit by design
  Result(Status status) : status_(std::move(status)) {  // NOLINT: implicit by design
    if (status_.ok()) std::abort();                     // an OK status carries no value
  }

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& operator*() & { return Checked(); }
  const T& operator*() const& { return const_cast<Result*>(this)->Checked(); }
  T&& operator*() && { return std::move(Checked()); }
  T* operator->() { return &Checked(); }
  const T* operator->() const { return &const_cast<Result*>(this)->Checked(); }

 private:
  T& Checked() {
    if (!value_) std::abort();
    return *value_;
  }
  std::optional<T> value_;
  Status status_;
};

}  // namespace sluice
