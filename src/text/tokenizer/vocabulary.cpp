#include "text/tokenizer/vocabulary.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>

#include "text/tokenizer/utf8.h"

namespace sluice {
namespace {

struct Alphabet {
  std::array<std::string, 256> of_byte;
  std::array<int16_t, 0x200> byte_of;  // -1: not in the alphabet
};

// Printable Latin-1 stands for itself, the other 68 bytes for U+0100 onwards in order.
const Alphabet& ByteAlphabet() {
  static const Alphabet alphabet = [] {
    Alphabet a;
    a.byte_of.fill(-1);
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool prints =
          (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
      const char32_t c = prints ? static_cast<char32_t>(byte) : next++;
      AppendUtf8(c, &a.of_byte[byte]);
      a.byte_of[c] = static_cast<int16_t>(byte);
    }
    return a;
  }();
  return alphabet;
}

}  // namespace

std::string_view ByteToAlphabet(uint8_t byte) { return ByteAlphabet().of_byte[byte]; }

std::string BytesFromAlphabet(std::string_view text) {
  const Alphabet& alphabet = ByteAlphabet();
  std::string bytes;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = DecodeValid(text.data() + at);
    if (c.value >= alphabet.byte_of.size() || alphabet.byte_of[c.value] < 0)
      return std::string(text);
    bytes.push_back(static_cast<char>(alphabet.byte_of[c.value]));
    at += c.bytes;
  }
  return bytes;
}

void Vocabulary::Add(int32_t id, std::string_view text, std::string_view decoded_text, bool special,
                     bool in_model) {
  TokenEntry entry;
  entry.id = id;
  entry.special = special;
  entry.in_model = in_model;
  entry.text_begin = buffer_.size();
  entry.text_bytes = static_cast<uint32_t>(text.size());
  buffer_.append(text);
  entry.bytes_begin = buffer_.size();
  buffer_.append(BytesFromAlphabet(decoded_text));
  entry.bytes_bytes = static_cast<uint32_t>(buffer_.size() - entry.bytes_begin);
  entries_.push_back(entry);
}

Status Vocabulary::Finish() {
  buffer_.shrink_to_fit();
  std::sort(entries_.begin(), entries_.end(),
            [](const TokenEntry& a, const TokenEntry& b) { return a.id < b.id; });
  for (size_t i = 1; i < entries_.size(); ++i)
    if (entries_[i].id == entries_[i - 1].id)
      return Error(Code::kBadCheckpoint, "id {} is given to two tokens, {} and {}", entries_[i].id,
                   Quoted(TextOf(entries_[i - 1])), Quoted(TextOf(entries_[i])));
  while (dense_ < entries_.size() && entries_[dense_].id == static_cast<int64_t>(dense_)) ++dense_;
  return IndexTexts();
}

Status Vocabulary::IndexTexts() {
  slots_.assign(std::bit_ceil(entries_.size() * 2 + 2), 0);
  const size_t mask = slots_.size() - 1;
  for (size_t i = 0; i < entries_.size(); ++i) {
    const std::string_view text = TextOf(entries_[i]);
    size_t slot = std::hash<std::string_view>()(text) & mask;
    for (; slots_[slot] != 0; slot = (slot + 1) & mask)
      if (const TokenEntry& other = entries_[slots_[slot] - 1]; TextOf(other) == text)
        return Error(Code::kBadCheckpoint, "token {} has two ids, {} and {}", Quoted(text),
                     other.id, entries_[i].id);
    slots_[slot] = static_cast<uint32_t>(i + 1);
  }
  return {};
}

const TokenEntry* Vocabulary::FindId(int32_t id) const {
  if (id >= 0 && static_cast<size_t>(id) < dense_) return &entries_[id];
  const auto at = std::lower_bound(entries_.begin() + dense_, entries_.end(), id,
                                   [](const TokenEntry& entry, int32_t i) { return entry.id < i; });
  return at != entries_.end() && at->id == id ? &*at : nullptr;
}

const TokenEntry* Vocabulary::FindText(std::string_view text) const {
  if (slots_.empty()) return nullptr;
  const size_t mask = slots_.size() - 1;
  size_t slot = std::hash<std::string_view>()(text) & mask;
  for (; slots_[slot] != 0; slot = (slot + 1) & mask)
    if (const TokenEntry& entry = entries_[slots_[slot] - 1]; TextOf(entry) == text) return &entry;
  return nullptr;
}

}  // namespace sluice
