// Byte-pair encoding of one piece of text: merges the adjacent pair of lowest rank, leftmost first,
// until no pair has a merge. Source: Sennrich et al., arXiv 1508.07909; byte level as in GPT-2.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/vocabulary.h"

namespace sluice {

/// (left id, right id) to rank and merged id: an open-addressing table.
class MergeTable {
 public:
  static constexpr uint32_t kNoRank = std::numeric_limits<uint32_t>::max();
  struct Merge {
    uint32_t rank = kNoRank;  // kNoRank: the pair has no merge
    int32_t id = -1;
  };

  /// Room for `merge_count` merges.
  explicit MergeTable(size_t merge_count = 0);
  /// A pair that is set again takes the later rank, as in `tokenizers`.
  void Set(int32_t left, int32_t right, Merge merge);
  Merge Find(int32_t left, int32_t right) const {
    const uint64_t pair = Pair(left, right);
    size_t slot = Home(pair);
    while (true) {
      if (slots_[slot].pair == pair) return slots_[slot].merge;
      if (slots_[slot].pair == kEmpty) return {};
      slot = (slot + 1) & mask_;
    }
  }
  /// Calls visit(left, right, merge) for every merge, in no order.
  template <class Visit>
  void ForEach(const Visit& visit) const {
    for (const Slot& slot : slots_)
      if (slot.pair != kEmpty)
        visit(static_cast<int32_t>(slot.pair >> 32), static_cast<int32_t>(slot.pair), slot.merge);
  }

 private:
  static constexpr uint64_t kEmpty = ~uint64_t{0};  // ids are not negative
  struct Slot {
    uint64_t pair = kEmpty;
    Merge merge;
  };
  static uint64_t Pair(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  size_t Home(uint64_t pair) const { return (pair * 0x9E3779B97F4A7C15ull) >> shift_; }

  std::vector<Slot> slots_;
  size_t mask_ = 0;
  int shift_ = 63;
};

/// The ids of recent short pieces: direct-mapped, of fixed size.
class PieceCache {
 public:
  static constexpr size_t kKeyBytesMax = 23;
  static constexpr size_t kIdsMax = 10;
  using Key = std::array<uint64_t, 3>;  // the piece, zero-padded, and its length in the last byte

  PieceCache() : slots_(kSlots) {}
  static Key MakeKey(std::string_view piece);  // of at most kKeyBytesMax bytes
  /// Appends the ids of the piece and returns true, or returns false.
  bool Append(const Key& key, std::vector<int32_t>* ids) const;
  void Insert(const Key& key, const int32_t* ids, size_t count);

 private:
  static constexpr int kSlotBits = 14;
  static constexpr size_t kSlots = size_t{1} << kSlotBits;
  struct alignas(64) Slot {
    Key key{};                           // all zero: empty, because a piece has at least one byte
    std::array<int32_t, kIdsMax> ids{};  // ended by -1 if shorter
  };
  static size_t Home(const Key& key);
  std::vector<Slot> slots_;
};

/// What a call of Encode works in; not shared between threads at the same time.
struct BpeScratch {
  struct Token {
    int32_t id;
    size_t begin, end;  // which of `start_ids` it is made of
    bool operator==(const Token&) const = default;
  };
  struct Symbol {
    int32_t id, previous, next;
    uint32_t rank;  // of the merge with the next symbol
    int32_t merged;
  };
  PieceCache cache;
  std::vector<int32_t> start_ids;  // one for each byte (less where bytes have no token)
  std::vector<Token> tokens, next_tokens;
  std::vector<Symbol> symbols;  // MergeWithHeap
  std::vector<uint64_t> heap;   // rank << 32 | position
  std::string alphabet_text;
};

/// Most symbols that one merge window holds.
constexpr size_t kWindowSymbols = 256;

/// The encoding of at most kWindowSymbols symbols, appended to `tokens`; `begin` numbers the first.
void MergeWindow(const MergeTable& merges, const int32_t* ids, size_t count, size_t begin,
                 std::vector<BpeScratch::Token>* tokens);

/// The encoding of scratch->start_ids, any number, in O(n log n); appended to `ids`.
void MergeWithHeap(const MergeTable& merges, BpeScratch* scratch, std::vector<int32_t>* ids);

/// The same in time O(n) from overlapping windows. Returns false, with `ids` as it was, for rare
/// texts that need the heap.
bool MergeByWindows(const MergeTable& merges, BpeScratch* scratch, std::vector<int32_t>* ids);

struct BpeModel {
  MergeTable merges;
  std::array<int32_t, 256> byte_ids;  // -1: the byte has no token
  int32_t unknown_id = -1;            // stands for such bytes; -1: they are dropped
  bool fuse_unknown = false;          // a run of them is one unknown token
  bool ignore_merges = false;         // a piece that is a token of the vocabulary is that token
  size_t token_text_bytes_max = 0;

  /// Appends the ids of `piece` (any bytes). O(n log n).
  void Encode(std::string_view piece, const Vocabulary& vocabulary, BpeScratch* scratch,
              std::vector<int32_t>* ids) const;

 private:
  void EncodeUncached(std::string_view piece, const Vocabulary& vocabulary, BpeScratch* scratch,
                      std::vector<int32_t>* ids) const;
  std::optional<int32_t> WholePiece(std::string_view piece, const Vocabulary& vocabulary,
                                    BpeScratch* scratch) const;
  void SetStartIds(std::string_view piece, std::vector<int32_t>* ids) const;
};

}  // namespace sluice
