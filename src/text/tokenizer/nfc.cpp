#include "text/tokenizer/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>

#include "text/tokenizer/utf8.h"

namespace sluice {
namespace {

constexpr size_t kCodePoints = 0x110000;
constexpr char32_t kFirstCombining =
    0x300;  // all below are starters that nothing turns into another
constexpr auto kCompose = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);

struct Range {
  char32_t first, last;
};

// `tokenizers` normalises with Unicode 9 data. These marks (and one composing vowel sign) are
// younger: there they have combining class 0 and compose with nothing, and models were trained on
// such text.
// clang-format off
constexpr Range kStartersInUnicode9[] = {
    {0x07FD, 0x07FD}, {0x0898, 0x089F}, {0x08CA, 0x08D3}, {0x09FE, 0x09FE}, {0x0C3C, 0x0C3C},
    {0x0D3B, 0x0D3C}, {0x0EBA, 0x0EBA}, {0x1715, 0x1715}, {0x1ABF, 0x1ACE}, {0x1DF6, 0x1DFA},
    {0xA82C, 0xA82C}, {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF},
    {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B},
    {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11930, 0x11930}, {0x1193D, 0x1193E},
    {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47},
    {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97},
    {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136},
    {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
};
// clang-format on

// One bit a code point: 0 if it is a starter that composes with nothing before it and decomposes
// into nothing else under NFC, so that text can be cut in front of it.
class ActiveTable {
 public:
  ActiveTable() : bits_(kCodePoints) {
    for (size_t c = kFirstCombining; c < kCodePoints; ++c)
      bits_[c] = IsActive(static_cast<int32_t>(c));
    for (const Range& range : kStartersInUnicode9)
      for (char32_t c = range.first; c <= range.last; ++c) bits_[c] = false;
  }
  bool operator[](char32_t c) const { return c >= kFirstCombining && bits_[c]; }

 private:
  static bool IsActive(int32_t c) {
    const utf8proc_property_t* property = utf8proc_get_property(c);
    const bool joins_as_second =
        property->comb_index != UINT16_MAX && (property->comb_index & 0x8000);
    const bool is_hangul_vowel_or_tail =
        (c >= 0x1161 && c <= 0x1175) || (c >= 0x11A8 && c <= 0x11C2);
    if (property->combining_class != 0 || joins_as_second || is_hangul_vowel_or_tail) return true;
    utf8proc_int32_t buffer[32];
    int boundary = 0;
    utf8proc_ssize_t length = utf8proc_decompose_char(c, buffer, 32, kCompose, &boundary);
    if (length == 1 && buffer[0] == c) return false;
    length = utf8proc_normalize_utf32(buffer, length, kCompose);
    return length != 1 || buffer[0] != c;
  }
  std::vector<bool> bits_;
};

const ActiveTable& Active() {
  static const ActiveTable table;
  return table;
}

int CombiningClass(int32_t c) {
  if (!Active()[static_cast<char32_t>(c)]) return 0;
  return utf8proc_get_property(c)->combining_class;
}

// utf8proc's own ordering is quadratic in a run of marks; this is not.
void OrderMarks(std::vector<int32_t>* text) {
  for (size_t begin = 0; begin < text->size();) {
    size_t end = begin;
    while (end < text->size() && CombiningClass((*text)[end]) != 0) ++end;
    std::stable_sort(text->begin() + begin, text->begin() + end,
                     [](int32_t a, int32_t b) { return CombiningClass(a) < CombiningClass(b); });
    begin = end + 1;
  }
}

// One stretch: a starter and all active characters after it.
void AppendNormalised(std::string_view stretch, std::vector<int32_t>* buffer, std::string* out) {
  buffer->clear();
  for (size_t at = 0; at < stretch.size();) {
    const CodePoint c = DecodeValid(stretch.data() + at);
    at += c.bytes;
    utf8proc_int32_t parts[32];
    int boundary = 0;
    const auto length =
        utf8proc_decompose_char(static_cast<int32_t>(c.value), parts, 32, kCompose, &boundary);
    buffer->insert(buffer->end(), parts, parts + std::clamp<utf8proc_ssize_t>(length, 0, 32));
  }
  OrderMarks(buffer);
  const auto length = utf8proc_normalize_utf32(
      buffer->data(), static_cast<utf8proc_ssize_t>(buffer->size()), kCompose);
  for (utf8proc_ssize_t i = 0; i < length; ++i)
    AppendUtf8(static_cast<char32_t>((*buffer)[i]), out);
}

}  // namespace

bool IsPlainlyNfc(std::string_view text) {
  const ActiveTable& active = Active();
  for (size_t at = 0; at < text.size();) {
    if (static_cast<unsigned char>(text[at]) < 0xCC) {  // below U+0300
      ++at;
      continue;
    }
    const CodePoint c = DecodeValid(text.data() + at);
    if (active[c.value]) return false;
    at += c.bytes;
  }
  return true;
}

std::string ToNfc(std::string_view text, std::vector<NfcEdit>* edits) {
  const ActiveTable& active = Active();
  std::string out;
  out.reserve(text.size());
  std::vector<int32_t> buffer;
  size_t copied = 0, starter = 0;  // text[starter] is the last character that starts a stretch
  for (size_t at = 0; at < text.size();) {
    const CodePoint first = DecodeValid(text.data() + at);
    if (!active[first.value]) {
      starter = at;
      at += first.bytes;
      continue;
    }
    size_t end = at;
    while (end < text.size()) {
      const CodePoint c = DecodeValid(text.data() + end);
      if (!active[c.value]) break;
      end += c.bytes;
    }
    out.append(text.substr(copied, starter - copied));
    const size_t out_begin = out.size();
    AppendNormalised(text.substr(starter, end - starter), &buffer, &out);
    if (edits) edits->push_back({starter, end, out_begin, out.size()});
    copied = starter = at = end;
  }
  out.append(text.substr(copied));
  return out;
}

}  // namespace sluice
