// Ids to text, one at a time, as a stream needs it.
#pragma once

#include <cstdint>
#include <string>

#include "text/tokenizer/tokenizer.h"

namespace sluice {

/// Turns the ids of one answer into text. What Push and Flush return, joined, is Decode of all ids;
/// no piece ends inside a character. Linear in the bytes of the tokens. Holds back at most 3 bytes.
class Detokenizer {
 public:
  /// `tokenizer` outlives this.
  Detokenizer(const Tokenizer& tokenizer, bool skip_special)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  /// The text that `id` completes; often empty inside a character of several tokens.
  std::string Push(int32_t id);

  /// What is left at the end: U+FFFD for a character that was never completed, else nothing.
  std::string Flush();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string held_;  // a proper prefix of one character
};

}  // namespace sluice
