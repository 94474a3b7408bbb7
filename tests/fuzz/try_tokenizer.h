// For the fuzz targets of tokenizer files: uses whatever was loaded.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "text/tokenizer/detokenizer.h"
#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer/utf8.h"

namespace sluice {

inline void Require(bool holds) {
  if (!holds) std::abort();
}

inline void TryText(const Tokenizer& tokenizer, std::string_view text) {
  const ByteRange middle{text.size() / 3, text.size() / 2};
  const EncodeOptions kOptions[] = {
      {}, {.parse_special = false}, {.add_special_tokens = true}, {.plain = {&middle, 1}}};
  for (const EncodeOptions& options : kOptions) {
    const auto ids = tokenizer.Encode(text, options);
    for (const int32_t id : ids) Require(tokenizer.Contains(id));
    Require(ids == tokenizer.Encode(text, options));
    Detokenizer detokenizer(tokenizer, false);
    std::string streamed;
    for (const int32_t id : ids) {
      const std::string piece = detokenizer.Push(id);
      Require(ValidPrefix(piece) == piece.size());
      streamed += piece;
    }
    Require(streamed + detokenizer.Flush() == tokenizer.Decode(ids, false));
  }
}

/// Encodes and streams what follows the first NUL byte of a fuzzer's input, and a text of our own.
inline void TryTokenizer(const Tokenizer& tokenizer, std::string_view input) {
  if (const size_t nul = input.find('\0'); nul != std::string_view::npos)
    TryText(tokenizer, input.substr(nul + 1));
  TryText(tokenizer, "a bc 'll 12\r\n\n  x<s><|eos|>");
}

}  // namespace sluice
