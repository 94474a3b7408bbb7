// What the routes need of tokenizer and chat template. The server's own view, so that routes can be
// tested without a checkpoint.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace boost::json {
class array;
class object;
class value;
}  // namespace boost::json

namespace sluice {

class TextFront;

/// One conversation; borrowed.
struct ChatPromptSource {
  const boost::json::value* messages = nullptr;
  const boost::json::value* tools = nullptr;    // or null
  const boost::json::object* kwargs = nullptr;  // or null
  bool add_generation_prompt = true;
  bool continue_final_message = false;
};

/// Thread-safe.
class TextService {
 public:
  virtual ~TextService() = default;
  virtual bool has_chat_template() const = 0;
  virtual Result<std::vector<int32_t>> EncodePrompt(std::string_view text,
                                                    bool add_special_tokens) const = 0;
  virtual Result<std::vector<int32_t>> EncodeChat(const ChatPromptSource& chat) const = 0;
  virtual std::string Decode(std::span<const int32_t> ids, bool skip_special) const = 0;
  /// What the token adds to the text: possibly part of a character. Empty for unknown ids.
  virtual std::string_view TokenBytes(int32_t id) const = 0;
  virtual bool IsSpecial(int32_t id) const = 0;
  /// "bos_token", "eos_token", "pad_token" or "chat_template"; empty where there is none.
  virtual std::string Property(std::string_view name) const = 0;
};

}  // namespace sluice
