#include "text/tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace sluice {
namespace {

constexpr size_t kPieceBytesMax = size_t{1} << 30;  // positions are 32-bit; longer pieces are cut

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
  SetStartIds(piece, &scratch->start_ids);
  if (!MergeByWindows(merges, scratch, ids)) MergeWithHeap(merges, scratch, ids);
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

void BpeModel::SetStartIds(std::string_view piece, std::vector<int32_t>* ids) const {
  ids->clear();
  bool after_unknown = false;
  for (const char byte : piece) {
    const int32_t id = byte_ids[static_cast<uint8_t>(byte)];
    if (id >= 0) {
      ids->push_back(id);
    } else if (unknown_id >= 0 && !(fuse_unknown && after_unknown)) {
      ids->push_back(unknown_id);
    }
    after_unknown = id < 0;
  }
}

}  // namespace sluice
