// Chat formats of families whose checkpoints ship none.
#pragma once

#include <span>
#include <string_view>

namespace sluice {

struct FamilyChat {
  std::string_view architecture;   // as in config.json
  std::string_view chat_template;  // for checkpoints without one of their own
  /// Tokens that end an answer, beside what config.json and generation_config.json name.
  std::span<const std::string_view> stop_tokens;
  std::string_view eos_token, pad_token;  // unless tokenizer_config.json names others
};

/// Null for families that ship what they need.
const FamilyChat* FindFamilyChat(std::string_view architecture);

}  // namespace sluice
