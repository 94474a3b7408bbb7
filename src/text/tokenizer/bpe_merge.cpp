// The merging itself. Short pieces and windows of long ones keep all their state in the nearest
// cache; the heap is for what windows cannot decide.
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <functional>

#include "text/tokenizer/bpe.h"

namespace sluice {
namespace {

constexpr uint32_t kNoRank = MergeTable::kNoRank;
constexpr size_t kOverlapSymbols = 48;
constexpr size_t kBlock = 16;
constexpr size_t kBlocks = kWindowSymbols / kBlock;
static_assert(kBlocks == kBlock, "block minima fill one block themselves");

using Block = const uint32_t*;  // kBlock values, aligned to 64 bytes

__m256i Half(Block block, int half) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(block + 8 * half));
}

uint32_t Min(Block block) {
  const __m256i eight = _mm256_min_epu32(Half(block, 0), Half(block, 1));
  __m128i four = _mm_min_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_min_epu32(four, _mm_shuffle_epi32(four, 0x4E));
  four = _mm_min_epu32(four, _mm_shuffle_epi32(four, 0xB1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(four));
}

// Index of the first of the block's values that is `value`; one is.
size_t FirstEqual(Block block, uint32_t value) {
  const __m256i wanted = _mm256_set1_epi32(static_cast<int>(value));
  const auto mask = [&](int half) {
    const __m256i equal = _mm256_cmpeq_epi32(Half(block, half), wanted);
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(equal)));
  };
  return static_cast<size_t>(std::countr_zero(mask(0) | mask(1) << 8));
}

// The symbols of one window as a linked list, and the ranks of their merges with the next one in a
// two-level tree of minima: finding the lowest, leftmost rank takes a few vector instructions.
class Window {
 public:
  Window(const MergeTable& merges, const int32_t* ids, size_t count)
      : merges_(merges), count_(count) {
    const size_t blocks = (count + kBlock - 1) / kBlock;
    std::fill(rank_ + count - 1, rank_ + blocks * kBlock, kNoRank);
    std::fill(minimum_, minimum_ + kBlock, kNoRank);
    for (size_t i = 0; i < count; ++i) {
      id_[i] = ids[i];
      previous_[i] = static_cast<int16_t>(i) - 1;
      next_[i] = static_cast<int16_t>(i + 1);
    }
    for (size_t i = 0; i + 1 < count; ++i) {
      const MergeTable::Merge merge = merges.Find(ids[i], ids[i + 1]);
      rank_[i] = merge.rank;
      merged_[i] = merge.id;
    }
    for (size_t block = 0; block < blocks; ++block) minimum_[block] = Min(rank_ + block * kBlock);
  }

  void MergeAll() {
    while (true) {
      const uint32_t lowest = Min(minimum_);
      if (lowest == kNoRank) return;
      const size_t block = FirstEqual(minimum_, lowest) * kBlock;
      MergeAt(block + FirstEqual(rank_ + block, lowest));
    }
  }

  void Append(size_t begin, std::vector<BpeScratch::Token>* tokens) const {
    for (size_t at = 0; at < count_; at = static_cast<size_t>(next_[at]))
      tokens->push_back({id_[at], begin + at, begin + static_cast<size_t>(next_[at])});
  }

 private:
  void MergeAt(size_t at) {
    const size_t right = static_cast<size_t>(next_[at]);
    id_[at] = merged_[at];
    next_[at] = next_[right];
    SetRank(right, {});
    if (static_cast<size_t>(next_[at]) < count_) previous_[next_[at]] = static_cast<int16_t>(at);
    Update(at);
    if (previous_[at] >= 0) Update(static_cast<size_t>(previous_[at]));
  }
  void Update(size_t at) {
    const size_t next = static_cast<size_t>(next_[at]);
    SetRank(at, next < count_ ? merges_.Find(id_[at], id_[next]) : MergeTable::Merge{});
  }
  void SetRank(size_t at, MergeTable::Merge merge) {
    rank_[at] = merge.rank;
    merged_[at] = merge.id;
    const size_t block = at / kBlock;
    minimum_[block] = Min(rank_ + block * kBlock);
  }

  const MergeTable& merges_;
  size_t count_;
  alignas(64) uint32_t minimum_[kBlock];
  alignas(64) uint32_t rank_[kWindowSymbols];
  int32_t merged_[kWindowSymbols];
  int32_t id_[kWindowSymbols];
  int16_t previous_[kWindowSymbols];  // -1 before the first
  int16_t next_[kWindowSymbols];      // count_ after the last
};

uint64_t HeapKey(uint32_t rank, size_t position) { return uint64_t{rank} << 32 | position; }

}  // namespace

void MergeWindow(const MergeTable& merges, const int32_t* ids, size_t count, size_t begin,
                 std::vector<BpeScratch::Token>* tokens) {
  if (count == 0) return;
  Window window(merges, ids, count);
  window.MergeAll();
  window.Append(begin, tokens);
}

void MergeWithHeap(const MergeTable& merges, BpeScratch* scratch, std::vector<int32_t>* ids) {
  std::vector<BpeScratch::Symbol>& symbols = scratch->symbols;
  std::vector<uint64_t>& heap = scratch->heap;
  const std::vector<int32_t>& start = scratch->start_ids;
  const auto later = std::greater<uint64_t>();
  symbols.clear();
  heap.clear();
  for (size_t i = 0; i < start.size(); ++i) {
    const int32_t at = static_cast<int32_t>(i);
    symbols.push_back({start[i], at - 1, i + 1 < start.size() ? at + 1 : -1, kNoRank, -1});
  }
  const auto update = [&](int32_t at) {
    BpeScratch::Symbol& symbol = symbols[at];
    const MergeTable::Merge merge =
        symbol.next < 0 ? MergeTable::Merge{} : merges.Find(symbol.id, symbols[symbol.next].id);
    symbol.rank = merge.rank;
    symbol.merged = merge.id;
    if (merge.rank == kNoRank) return;
    heap.push_back(HeapKey(merge.rank, static_cast<size_t>(at)));
    std::push_heap(heap.begin(), heap.end(), later);
  };
  for (size_t i = 0; i < start.size(); ++i) update(static_cast<int32_t>(i));
  while (!heap.empty()) {
    const uint64_t top = heap.front();
    std::pop_heap(heap.begin(), heap.end(), later);
    heap.pop_back();
    const int32_t at = static_cast<int32_t>(top & 0xFFFFFFFFu);
    BpeScratch::Symbol& left = symbols[at];
    if (left.rank != top >> 32) continue;  // the pair is no more
    BpeScratch::Symbol& right = symbols[left.next];
    left.id = left.merged;
    left.next = right.next;
    right.rank = kNoRank;
    if (left.next >= 0) symbols[left.next].previous = at;
    if (left.previous >= 0) update(left.previous);
    update(at);
  }
  for (int32_t at = symbols.empty() ? -1 : 0; at >= 0; at = symbols[at].next)
    ids->push_back(symbols[at].id);
}

// A sequence of tokens is the encoding of its text if and only if every two neighbours are the
// encoding of theirs: the first merge that crossed a boundary would cross it in the pair alone,
// too, because within the pair merges happen in the same order. So two windows that share a token
// can be joined there: every pair of neighbours then lies in one of the windows.
bool MergeByWindows(const MergeTable& merges, BpeScratch* scratch, std::vector<int32_t>* ids) {
  std::vector<BpeScratch::Token>& tokens = scratch->tokens;
  std::vector<BpeScratch::Token>& next = scratch->next_tokens;
  const std::vector<int32_t>& start = scratch->start_ids;
  const size_t ids_before = ids->size();
  const auto append = [&](size_t count) {
    for (size_t i = 0; i < count; ++i) ids->push_back(tokens[i].id);
  };
  size_t covered = std::min(start.size(), kWindowSymbols);
  tokens.clear();
  MergeWindow(merges, start.data(), covered, 0, &tokens);
  while (covered < start.size()) {
    size_t i = tokens.size() - 1;  // the next window begins where a token does
    while (i > 0 && covered - tokens[i].begin < kOverlapSymbols) --i;
    const size_t begin = tokens[i].begin;
    const size_t end = std::min(start.size(), begin + kWindowSymbols);
    next.clear();
    MergeWindow(merges, start.data() + begin, end - begin, begin, &next);
    size_t j = 0;
    while (i < tokens.size() && j < next.size() && tokens[i] != next[j])
      tokens[i].begin < next[j].begin ? ++i : ++j;
    if (end <= covered || i == tokens.size() || j == next.size()) {
      ids->resize(ids_before);
      return false;
    }
    append(i);
    tokens.assign(next.begin() + static_cast<ptrdiff_t>(j), next.end());
    covered = end;
  }
  append(tokens.size());
  return true;
}

}  // namespace sluice
