// The tokens of a file: text, bytes and flags by id, and ids by text. Sized by the entries present,
// never by the largest id.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace sluice {

struct TokenEntry {
  int32_t id = 0;
  bool special = false;
  bool in_model = false;                     // of the BPE vocabulary; else only an added token
  uint64_t text_begin = 0, bytes_begin = 0;  // into the vocabulary's one buffer
  uint32_t text_bytes = 0, bytes_bytes = 0;
};

class Vocabulary {
 public:
  /// Ids are not negative. `decoded_text` is what decoding starts from; it differs from `text` only
  /// for added tokens that normalisation changes.
  void Add(int32_t id, std::string_view text, std::string_view decoded_text, bool special,
           bool in_model);

  /// Sorts and indexes the entries; call once, before the look-ups. Error: an id or a text occurs
  /// twice.
  Status Finish();

  const TokenEntry* FindId(int32_t id) const;
  const TokenEntry* FindText(std::string_view text) const;
  std::string_view TextOf(const TokenEntry& entry) const {
    return std::string_view(buffer_).substr(entry.text_begin, entry.text_bytes);
  }
  std::string_view BytesOf(const TokenEntry& entry) const {
    return std::string_view(buffer_).substr(entry.bytes_begin, entry.bytes_bytes);
  }
  const std::vector<TokenEntry>& entries() const { return entries_; }  // by ascending id

 private:
  Status IndexTexts();

  std::string buffer_;
  std::vector<TokenEntry> entries_;
  size_t dense_ = 0;             // entries_[i].id == i for i < dense_
  std::vector<uint32_t> slots_;  // hash of the text to entry index + 1, open addressing
};

/// The byte-level alphabet of GPT-2: a printable character for each byte.
std::string_view ByteToAlphabet(uint8_t byte);

/// The bytes that `text` spells if all its characters are of the alphabet, else `text` itself: what
/// the ByteLevel decoder of `tokenizers` does to each token.
std::string BytesFromAlphabet(std::string_view text);

}  // namespace sluice
