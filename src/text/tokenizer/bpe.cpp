#include "text/tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace sluice {
namespace {

// Up to here rescanning all pairs for each merge is faster than a heap.
constexpr size_t kShortSymbolsMax = 40;
constexpr size_t kPieceBytesMax = size_t{1} << 30;  // positions are 32-bit; longer pieces are cut

uint64_t HeapKey(uint32_t rank, size_t position) { return uint64_t{rank} << 32 | position; }

}  // namespace

MergeTable::MergeTable(size_t merge_count) {
  const size_t slot_count = std::bit_ceil(merge_count * 2 + 2);
  slots_.resize(slot_count);
  mask_ = slot_count - 1;
  shift_ = 64 - std::countr_zero(slot_count);
}

void MergeTable::Set(int32_t left, int32_t right, Merge merge) {
  const uint64_t pair = Pair(left, right);
  size_t slot = Home(pair);
  while (slots_[slot].pair != kEmpty && slots_[slot].pair != pair) slot = (slot + 1) & mask_;
  slots_[slot] = {pair, merge};
}

PieceCache::Key PieceCache::MakeKey(std::string_view piece) {
  Key key{};
  std::memcpy(key.data(), piece.data(), piece.size());
  key[2] |= uint64_t{piece.size()} << 56;
  return key;
}

size_t PieceCache::Home(const Key& key) {
  uint64_t h = key[0] * 0x9E3779B97F4A7C15ull ^ std::rotl(key[1] * 0xC2B2AE3D27D4EB4Full, 29) ^
               std::rotl(key[2] * 0x165667B19E3779F9ull, 43);
  h = (h ^ h >> 32) * 0x9FB21C651E98DF25ull;
  return h >> (64 - kSlotBits);
}

bool PieceCache::Append(const Key& key, std::vector<int32_t>* ids) const {
  const Slot& slot = slots_[Home(key)];
  if (slot.key != key) return false;
  for (const int32_t id : slot.ids) {
    if (id < 0) break;
    ids->push_back(id);
  }
  return true;
}

void PieceCache::Insert(const Key& key, const int32_t* ids, size_t count) {
  Slot& slot = slots_[Home(key)];
  slot.key = key;
  slot.ids.fill(-1);
  std::copy_n(ids, count, slot.ids.begin());
}

void BpeModel::Encode(std::string_view piece, const Vocabulary& vocabulary, BpeScratch* scratch,
                      std::vector<int32_t>* ids) const {
  if (piece.size() > PieceCache::kKeyBytesMax) {
    for (; piece.size() > kPieceBytesMax; piece.remove_prefix(kPieceBytesMax))
      EncodeUncached(piece.substr(0, kPieceBytesMax), vocabulary, scratch, ids);
    return EncodeUncached(piece, vocabulary, scratch, ids);
  }
  if (piece.empty()) return;
  const PieceCache::Key key = PieceCache::MakeKey(piece);
  if (scratch->cache.Append(key, ids)) return;
  const size_t begin = ids->size();
  EncodeUncached(piece, vocabulary, scratch, ids);
  const size_t count = ids->size() - begin;
  if (count <= PieceCache::kIdsMax) scratch->cache.Insert(key, ids->data() + begin, count);
}

void BpeModel::EncodeUncached(std::string_view piece, const Vocabulary& vocabulary,
                              BpeScratch* scratch, std::vector<int32_t>* ids) const {
  if (ignore_merges)
    if (const std::optional<int32_t> id = WholePiece(piece, vocabulary, scratch)) {
      ids->push_back(*id);
      return;
    }
  StartSymbols(piece, scratch);
  if (scratch->symbols.empty()) return;
  if (scratch->symbols.size() <= kShortSymbolsMax) {
    MergeShort(scratch);
    for (const BpeScratch::Symbol& symbol : scratch->symbols) ids->push_back(symbol.id);
  } else {
    MergeLong(scratch);
    for (int32_t at = 0; at >= 0; at = scratch->symbols[at].next)
      ids->push_back(scratch->symbols[at].id);
  }
}

std::optional<int32_t> BpeModel::WholePiece(std::string_view piece, const Vocabulary& vocabulary,
                                            BpeScratch* scratch) const {
  if (piece.size() > token_text_bytes_max) return std::nullopt;
  scratch->alphabet_text.clear();
  for (const char byte : piece)
    scratch->alphabet_text.append(ByteToAlphabet(static_cast<uint8_t>(byte)));
  const TokenEntry* entry = vocabulary.FindText(scratch->alphabet_text);
  if (entry == nullptr || !entry->in_model) return std::nullopt;
  return entry->id;
}

void BpeModel::StartSymbols(std::string_view piece, BpeScratch* scratch) const {
  std::vector<BpeScratch::Symbol>& symbols = scratch->symbols;
  symbols.clear();
  bool after_unknown = false;
  for (const char byte : piece) {
    const int32_t id = byte_ids[static_cast<uint8_t>(byte)];
    const bool unknown = id < 0;
    if (!unknown) {
      symbols.push_back({id, 0, 0, MergeTable::kNoRank, -1});
    } else if (unknown_id >= 0 && !(fuse_unknown && after_unknown)) {
      symbols.push_back({unknown_id, 0, 0, MergeTable::kNoRank, -1});
    }
    after_unknown = unknown;
  }
  for (size_t i = 0; i + 1 < symbols.size(); ++i) {
    const MergeTable::Merge merge = merges.Find(symbols[i].id, symbols[i + 1].id);
    symbols[i].rank = merge.rank;
    symbols[i].merged = merge.id;
  }
}

void BpeModel::MergeShort(BpeScratch* scratch) const {
  std::vector<BpeScratch::Symbol>& symbols = scratch->symbols;
  while (symbols.size() > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < symbols.size(); ++i)
      if (symbols[i].rank < symbols[best].rank) best = i;
    if (symbols[best].rank == MergeTable::kNoRank) break;
    symbols[best].id = symbols[best].merged;
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
    for (size_t i = best == 0 ? 0 : best - 1; i <= best; ++i) {
      const bool last = i + 1 == symbols.size();
      const MergeTable::Merge merge =
          last ? MergeTable::Merge{} : merges.Find(symbols[i].id, symbols[i + 1].id);
      symbols[i].rank = merge.rank;
      symbols[i].merged = merge.id;
    }
  }
}

void BpeModel::MergeLong(BpeScratch* scratch) const {
  std::vector<BpeScratch::Symbol>& symbols = scratch->symbols;
  std::vector<uint64_t>& heap = scratch->heap;
  const auto later = std::greater<uint64_t>();
  heap.clear();
  for (size_t i = 0; i < symbols.size(); ++i) {
    symbols[i].previous = static_cast<int32_t>(i) - 1;
    symbols[i].next = i + 1 < symbols.size() ? static_cast<int32_t>(i) + 1 : -1;
    if (symbols[i].rank != MergeTable::kNoRank) heap.push_back(HeapKey(symbols[i].rank, i));
  }
  std::make_heap(heap.begin(), heap.end(), later);
  const auto update = [&](int32_t at) {
    BpeScratch::Symbol& symbol = symbols[at];
    const MergeTable::Merge merge =
        symbol.next < 0 ? MergeTable::Merge{} : merges.Find(symbol.id, symbols[symbol.next].id);
    symbol.rank = merge.rank;
    symbol.merged = merge.id;
    if (merge.rank == MergeTable::kNoRank) return;
    heap.push_back(HeapKey(merge.rank, static_cast<size_t>(at)));
    std::push_heap(heap.begin(), heap.end(), later);
  };
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
    right.rank = MergeTable::kNoRank;
    if (left.next >= 0) symbols[left.next].previous = at;
    if (left.previous >= 0) update(left.previous);
    update(at);
  }
}

}  // namespace sluice
