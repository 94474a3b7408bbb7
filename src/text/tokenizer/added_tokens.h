// Finds added tokens in text as `tokenizers` does: leftmost, then longest.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/tokenizer.h"

namespace sluice {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool single_word = false;  // matches only where no word character stands before or after
  bool lstrip = false;       // takes white space before it along
  bool rstrip = false;       // and after it
  bool normalized = false;   // is looked for in the normalised text
};

/// An added token in a text, or the text before, between or after them (id == kText).
struct Span {
  static constexpr int32_t kText = -1;
  int32_t id;
  size_t begin, end;
};

/// A trie over the contents of some added tokens.
class AddedTokenMatcher {
 public:
  AddedTokenMatcher() = default;
  /// `patterns[i]` is what to look for in place of tokens[i].content; none is empty.
  AddedTokenMatcher(std::vector<AddedToken> tokens, const std::vector<std::string>& patterns);

  bool has_special() const { return has_special_; }

  /// Cuts `text` (valid UTF-8) into spans. Special tokens that touch a range of `plain` (sorted,
  /// disjoint) are not recognised.
  std::vector<Span> Split(std::string_view text, std::span<const ByteRange> plain) const;

 private:
  struct Node {
    int32_t token = -1;  // index of the token that ends here
    std::vector<std::pair<uint8_t, uint32_t>> children;
  };
  struct Match {
    int32_t token = -1;  // -1: none
    size_t end = 0;
    bool skip = false;  // a special token inside a plain range: passed over as a whole
  };
  void Insert(std::string_view pattern, int32_t token);
  Match LongestAt(std::string_view text, size_t begin, std::span<const ByteRange> plain) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  bool starts_[256] = {};
  bool has_special_ = false;
};

}  // namespace sluice
