#include "text/tokenizer/added_tokens.h"

#include <algorithm>

#include "text/tokenizer/unicode_classes.h"
#include "text/tokenizer/utf8.h"

namespace sluice {
namespace {

bool IsClass(std::string_view text, size_t at, CharClass mask) {
  return (UnicodeClasses::Get()[DecodeValid(text.data() + at).value] & mask) != 0;
}

bool IsSingleWord(std::string_view text, size_t begin, size_t end) {
  if (begin > 0 && IsClass(text, PreviousBegin(text, begin), kWord)) return false;
  return end == text.size() || !IsClass(text, end, kWord);
}

// Begin of the white space that ends at `end`, looking back no further than `floor`.
size_t SpaceBegin(std::string_view text, size_t end, size_t floor) {
  while (end > floor) {
    const size_t begin = PreviousBegin(text, end);
    if (!IsClass(text, begin, kSpace)) break;
    end = begin;
  }
  return std::max(end, floor);
}

size_t SpaceEnd(std::string_view text, size_t begin) {
  while (begin < text.size() && IsClass(text, begin, kSpace))
    begin += DecodeValid(text.data() + begin).bytes;
  return begin;
}

enum class Overlap { kNone, kPart, kInside };

// How [begin, end) lies to the plain ranges; adjacent ranges count as one.
Overlap OverlapOf(std::span<const ByteRange> plain, size_t begin, size_t end) {
  auto range = std::upper_bound(plain.begin(), plain.end(), begin,
                                [](size_t at, const ByteRange& r) { return at < r.end; });
  if (range == plain.end() || range->begin >= end) return Overlap::kNone;
  if (range->begin > begin) return Overlap::kPart;
  size_t covered = range->end;
  for (++range; covered < end && range != plain.end() && range->begin <= covered; ++range)
    covered = range->end;
  return covered >= end ? Overlap::kInside : Overlap::kPart;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens,
                                     const std::vector<std::string>& patterns)
    : tokens_(std::move(tokens)), nodes_(1) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    Insert(patterns[i], static_cast<int32_t>(i));
    has_special_ |= tokens_[i].special;
  }
}

void AddedTokenMatcher::Insert(std::string_view pattern, int32_t token) {
  starts_[static_cast<uint8_t>(pattern[0])] = true;
  uint32_t node = 0;
  for (const char c : pattern) {
    const uint8_t byte = static_cast<uint8_t>(c);
    auto& children = nodes_[node].children;
    const auto at = std::find_if(children.begin(), children.end(),
                                 [&](const auto& child) { return child.first == byte; });
    if (at != children.end()) {
      node = at->second;
      continue;
    }
    const uint32_t child = static_cast<uint32_t>(nodes_.size());
    children.emplace_back(byte, child);
    nodes_.emplace_back();
    node = child;
  }
  nodes_[node].token = token;
}

AddedTokenMatcher::Match AddedTokenMatcher::LongestAt(std::string_view text, size_t begin,
                                                      std::span<const ByteRange> plain) const {
  Match longest;
  uint32_t node = 0;
  for (size_t at = begin; at < text.size(); ++at) {
    const auto& children = nodes_[node].children;
    const auto child = std::find_if(children.begin(), children.end(), [&](const auto& c) {
      return c.first == static_cast<uint8_t>(text[at]);
    });
    if (child == children.end()) break;
    node = child->second;
    const int32_t token = nodes_[node].token;
    if (token < 0) continue;
    const Overlap overlap =
        tokens_[token].special ? OverlapOf(plain, begin, at + 1) : Overlap::kNone;
    // One that only straddles an edge does not exist: it must not swallow a true token beside it.
    if (overlap == Overlap::kPart) continue;
    longest = {token, at + 1, overlap == Overlap::kInside};
  }
  return longest;
}

std::vector<Span> AddedTokenMatcher::Split(std::string_view text,
                                           std::span<const ByteRange> plain) const {
  std::vector<Span> spans;
  size_t emitted = 0;    // text up to here is in `spans`
  size_t space_end = 0;  // end of the white space that the last rstrip took
  for (size_t begin = 0; !tokens_.empty() && begin < text.size();) {
    if (!starts_[static_cast<uint8_t>(text[begin])]) {
      ++begin;
      continue;
    }
    const Match match = LongestAt(text, begin, plain);
    if (match.token < 0) {
      ++begin;
      continue;
    }
    const AddedToken& token = tokens_[match.token];
    size_t span_begin = begin, span_end = match.end;
    begin = match.end;
    if (match.skip || (token.single_word && !IsSingleWord(text, span_begin, span_end))) continue;
    if (token.lstrip) span_begin = SpaceBegin(text, span_begin, emitted);
    if (token.rstrip)
      span_end = space_end = SpaceEnd(text, span_end < space_end ? space_end : span_end);
    if (emitted < span_begin) spans.push_back({Span::kText, emitted, span_begin});
    spans.push_back({token.id, span_begin, span_end});
    emitted = span_end;
  }
  if (emitted < text.size()) spans.push_back({Span::kText, emitted, text.size()});
  return spans;
}

}  // namespace sluice
