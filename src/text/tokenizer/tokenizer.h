// Byte-level BPE for Hugging Face tokenizer.json files and for xAI's tokenizer.tok.json: text to
// token ids and back, with the ids that the PyPI packages `tokenizers` and `tiktoken` give
// (tests/oracle/tokenizer_oracle.py and tok_json_oracle.py compare them).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/byte_range.h"

namespace sluice {

/// How special added tokens (those a file marks `special`: control tokens) are treated. Added
/// tokens that are not special (such as <think> in Qwen3) are ordinary vocabulary and match
/// everywhere.
struct EncodeOptions {
  /// false: text of a special token is tokenised as plain text, all over `text`.
  bool parse_special = true;
  /// Adds what the file's post-processor adds around one sequence (often a BOS, often nothing).
  bool add_special_tokens = false;
  /// With parse_special: ranges that came from outside (messages). A special token that touches one
  /// of them is not recognised; all else is tokenised as one text, so that ids across a range's
  /// edge are those of the plain call. Sorted and disjoint.
  std::span<const ByteRange> plain = {};
};

/// Immutable once loaded; every method is thread-safe.
class Tokenizer {
 public:
  /// Reads a tokenizer.json, or a tokenizer.tok.json if the name ends in ".tok.json". Errors:
  /// kNotFound; kBadCheckpoint (damaged or contradictory);
  /// kTooLarge; kUnsupported names the setting whose meaning we do not implement.
  static Result<std::unique_ptr<Tokenizer>> Load(const std::string& path);
  /// The same from memory; `name` is what errors call it.
  static Result<std::unique_ptr<Tokenizer>> FromJson(std::string_view json,
                                                     std::string_view name = "tokenizer.json");
  static Result<std::unique_ptr<Tokenizer>> FromTokJson(
      std::string_view json, std::string_view name = "tokenizer.tok.json");
  ~Tokenizer();

  /// O(n log n) on any bytes. Bytes that are not UTF-8 count as U+FFFD, one for each maximal
  /// invalid part. With `plain` or without parse_special no special id comes from such text, except
  /// the file's own unknown token.
  std::vector<int32_t> Encode(std::string_view text, const EncodeOptions& options = {}) const;

  /// The text of `ids`; unknown ids count as nothing, broken UTF-8 as U+FFFD.
  std::string Decode(std::span<const int32_t> ids, bool skip_special) const;

  /// What a token adds to the decoded byte stream; may be part of a character. Empty if unknown.
  std::string_view TokenBytes(int32_t id) const;
  /// The token as the file spells it (in the byte-level alphabet unless added). Empty if unknown.
  std::string_view TokenText(int32_t id) const;
  std::optional<int32_t> FindId(std::string_view token_text) const;
  bool Contains(int32_t id) const;
  bool IsSpecial(int32_t id) const;

  /// Entries, added tokens included.
  size_t token_count() const;
  /// Largest id + 1: what a model's vocabulary must at least have.
  int64_t id_end() const;

  struct Impl;  // text/tokenizer/pipeline.h

 private:
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
