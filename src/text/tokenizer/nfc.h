// Unicode normalisation form C in time O(n log n), with the data that `tokenizers` uses.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

/// A stretch that normalisation may have changed: text[begin, end) became out[out_begin, out_end).
struct NfcEdit {
  size_t begin, end;
  size_t out_begin, out_end;
};

/// Whether every character of `text` (valid UTF-8) is one that normalisation leaves alone wherever
/// it stands. False does not mean that normalisation changes the text.
bool IsPlainlyNfc(std::string_view text);

/// The NFC of `text` (valid UTF-8). `edits`, if not null, receives the stretches in order.
std::string ToNfc(std::string_view text, std::vector<NfcEdit>* edits = nullptr);

}  // namespace sluice
