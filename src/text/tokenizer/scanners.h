// The regular expressions that known tokenizers cut text with, as hand-written linear scanners.
// There is no regular-expression engine: a pattern is recognised by its exact text.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace sluice {

enum class Scanner {
  kGpt2,
  kLetters1,   // Qwen2, Qwen3, Ling, Grok-2: a letter run, one digit, a run of other signs, space
  kLetters3,   // Llama-3, GPT-4: the same with up to three digits
  kDigits3,    // DeepSeek-V3, stage 1: \p{N}{1,3}
  kCjk,        // DeepSeek-V3, stage 2: [一-龥぀-ゟ゠-ヿ]+
  kDeepSeek,   // DeepSeek-V3, stage 3
  kEachDigit,  // pre-tokenizer Digits, individual_digits
  kDigitRuns,  // pre-tokenizer Digits, in runs
};

/// The scanner for the pattern of a Split pre-tokenizer with behaviour Isolated, if it is a known
/// one.
std::optional<Scanner> FindScanner(std::string_view pattern);

/// Length in bytes of the first piece of `text` (valid UTF-8, not empty): a match of the pattern,
/// or what lies before the next match. Cutting a whole text this way takes linear time.
size_t PieceBytes(Scanner scanner, std::string_view text);

}  // namespace sluice
