// tokenizer.json texts for tests: every byte has the token of its own number, merges follow from
// 256.
#pragma once

#include <fmt/format.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer/vocabulary.h"

namespace sluice::test {

inline std::string Split(std::string_view escaped_regex) {
  return fmt::format(
      R"({{"type":"Sequence","pretokenizers":[{{"type":"Split","pattern":{{"Regex":"{}"}},"behavior":"Isolated","invert":false}},{{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false}}]}})",
      escaped_regex);
}

inline const std::string kQwenSplit = Split(
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+)");
inline const std::string kGpt2Split =
    R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true})";

struct FileParts {
  std::vector<std::pair<std::string, std::string>> merges = {};  // in the byte-level alphabet
  std::string more_merges = {};                                  // `,"x y"`
  std::string normalizer = "null";
  std::string pre_tokenizer = kQwenSplit;
  std::string post_processor = "null";
  std::string decoder = R"({"type":"ByteLevel"})";
  std::string added_tokens = {};  // members of the array
  std::string more_vocab = {};    // `,"x":300`
  std::string more_model = {};    // `,"ignore_merges":true`
};

inline std::string Escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

inline std::string MakeJson(const FileParts& parts) {
  std::string vocab, merges;
  for (int byte = 0; byte < 256; ++byte)
    vocab += fmt::format("{}\"{}\":{}", byte ? "," : "",
                         Escaped(ByteToAlphabet(static_cast<uint8_t>(byte))), byte);
  int next = 256;
  for (const auto& [left, right] : parts.merges) {
    vocab += fmt::format(",\"{}\":{}", Escaped(left + right), next++);
    merges += fmt::format("{}\"{} {}\"", merges.empty() ? "" : ",", Escaped(left), Escaped(right));
  }
  merges += parts.more_merges;
  return fmt::format(
      R"({{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{}],"normalizer":{},"pre_tokenizer":{},"post_processor":{},"decoder":{},"model":{{"type":"BPE","dropout":null,"unk_token":null{},"vocab":{{{}{}}},"merges":[{}]}}}})",
      parts.added_tokens, parts.normalizer, parts.pre_tokenizer, parts.post_processor,
      parts.decoder, parts.more_model, vocab, parts.more_vocab, merges);
}

inline std::string Added(int64_t id, std::string_view content, bool special,
                         std::string_view more = "") {
  return fmt::format(R"({{"id":{},"content":"{}","special":{},"normalized":false{}}})", id, content,
                     special, more);
}

}  // namespace sluice::test
