// Stop strings in text that arrives in pieces.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace sluice {

/// Text that may be shown, and the stop string that ended it, if one did.
struct StopOutput {
  std::string text;
  int matched = -1;  // index of the stop string; -1: none so far
};

/// An Aho-Corasick automaton over the bytes. The text is over where a stop string is first complete
/// (of several that end there, the longest counts), however the text is cut into pieces: the same
/// text comes out and the same string matches. What may still become a stop string is held back.
class StopMatcher {
 public:
  static constexpr size_t kStopsMax = 16;
  static constexpr size_t kStopBytesMax = 256;

  /// No stop string: everything passes.
  StopMatcher() = default;
  /// `keep_matched`: the text includes the stop string (no_stop_trim). Errors: kInvalidArgument
  /// with param "stop" if there are too many, or one is empty or too long.
  static Result<StopMatcher> Create(std::span<const std::string> stops, bool keep_matched);

  /// Takes the next piece. After a match all further text is dropped. Linear in the piece.
  StopOutput Push(std::string_view piece);

  /// The end of the text: what was held back is no stop string.
  std::string Flush();

  int matched() const { return matched_; }

 private:
  struct Node {
    std::vector<std::pair<uint8_t, uint32_t>> children;
    uint32_t fallback = 0;  // the node of the longest proper suffix that is in the trie
    uint32_t depth = 0;     // bytes held back in this state
    int stop = -1;          // the longest stop string that ends here
    uint32_t stop_bytes = 0;
  };
  void Insert(std::string_view stop, int stop_idx);
  void LinkFallbacks();
  uint32_t Child(uint32_t node, uint8_t byte) const;  // 0: none
  uint32_t Next(uint32_t node, uint8_t byte) const;

  std::vector<Node> nodes_ = std::vector<Node>(1);
  bool keep_matched_ = false;
  uint32_t state_ = 0;
  std::string held_;
  int matched_ = -1;
};

}  // namespace sluice
