// Reads tokenizer.tok.json, the form in which xAI ships its tokenizers: tokens as bytes with their
// ranks, in the sense of the PyPI package `tiktoken`. Whatever would change the ids and is not
// implemented is refused by name.
#include <algorithm>
#include <string>
#include <unordered_map>
#include <vector>

#include "text/tokenizer/json_members.h"
#include "text/tokenizer/pipeline.h"
#include "text/tokenizer/utf8.h"

namespace sluice {
namespace {

// Of word_split "V1", unless pat_str says another.
constexpr std::string_view kV1Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct FileToken {
  int32_t id;
  std::string bytes;
};

// {"bytes": [72, 105], "token": 7}
Status ReadToken(const json::value& item, const std::string& where, FileToken* token) {
  if (!item.is_object()) return Bad(where, "is not an object");
  const json::value* id = Member(item.get_object(), "token");
  if (id == nullptr) return Bad(where, "has no token");
  TRY(token->id, ReadId(*id, where));
  TRY(const json::array* bytes, ArrayMember(item.get_object(), where, "bytes"));
  if (bytes->empty()) return Bad(where, "has no bytes");
  if (bytes->size() > kTokenBytesMax)
    return Error(Code::kTooLarge, "{} has {} bytes, at most {}", where, bytes->size(),
                 kTokenBytesMax);
  for (const json::value& value : *bytes) {
    const int64_t* byte = value.if_int64();
    if (byte == nullptr || *byte < 0 || *byte > 255)
      return Error(Code::kBadCheckpoint, "{}.bytes has {}, not an integer in 0 .. 255", where,
                   Quoted(json::serialize(value)));
    token->bytes.push_back(static_cast<char>(*byte));
  }
  return {};
}

Result<std::vector<FileToken>> ReadTokens(const json::object& root, std::string_view key) {
  TRY(const json::array* list, ArrayMember(root, "tokenizer", key));
  std::vector<FileToken> tokens(list->size());
  for (size_t i = 0; i < list->size(); ++i)
    RETURN_IF_ERROR(ReadToken((*list)[i], fmt::format("{}[{}]", key, i), &tokens[i]));
  return tokens;
}

std::string InAlphabet(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) text.append(ByteToAlphabet(static_cast<uint8_t>(byte)));
  return text;
}

Status ReadPattern(const json::object& root, Tokenizer::Impl* impl) {
  TRY(const std::string_view split, StringMember(root, "tokenizer", "word_split"));
  if (split != "V1") return Unsupported("word_split", split, "V1");
  TRY(std::string_view pattern, StringMember(root, "tokenizer", "pat_str"));
  if (pattern.empty()) pattern = kV1Pattern;
  const std::optional<Scanner> scanner = FindScanner(pattern);
  // `tiktoken` drops what a pattern does not match; these match every character.
  if (scanner != Scanner::kLetters1 && scanner != Scanner::kLetters3 && scanner != Scanner::kGpt2)
    return Unsupported("pat_str", pattern, "the patterns of GPT-2, GPT-4, Qwen2/Qwen3 and Ling");
  impl->steps.push_back({false, scanner});
  return {};
}

Status AddRegular(const std::vector<FileToken>& tokens, Tokenizer::Impl* impl) {
  impl->bpe.byte_ids.fill(-1);
  for (const FileToken& token : tokens) {
    const std::string text = InAlphabet(token.bytes);
    impl->vocabulary.Add(token.id, text, text, false, true);
    impl->bpe.token_text_bytes_max = std::max(impl->bpe.token_text_bytes_max, text.size());
    if (token.bytes.size() == 1)
      impl->bpe.byte_ids[static_cast<uint8_t>(token.bytes[0])] = token.id;
  }
  for (int byte = 0; byte < 256; ++byte)
    if (impl->bpe.byte_ids[byte] < 0)
      return Error(Code::kBadCheckpoint, "regular_tokens has no token for the byte {}", byte);
  return {};
}

Status AddSpecial(const std::vector<FileToken>& tokens, Tokenizer::Impl* impl) {
  std::vector<AddedToken> added;
  std::vector<std::string> patterns;
  for (const FileToken& token : tokens) {
    if (ValidPrefix(token.bytes) != token.bytes.size())
      return Error(Code::kBadCheckpoint, "special_tokens: {} is not UTF-8", Quoted(token.bytes));
    impl->vocabulary.Add(token.id, token.bytes, InAlphabet(token.bytes), true, false);
    added.push_back({.id = token.id, .content = token.bytes, .special = true});
    patterns.push_back(token.bytes);
  }
  impl->raw_matcher = AddedTokenMatcher(std::move(added), patterns);
  return {};
}

// A token's rank is its id, and any two tokens whose bytes make it may be merged: one row of the
// table for each way to cut it.
void AddMerges(const std::vector<FileToken>& tokens, BpeModel* bpe) {
  std::unordered_map<std::string_view, int32_t> id_of;
  for (const FileToken& token : tokens) id_of.emplace(token.bytes, token.id);
  struct Row {
    int32_t left, right, id;
  };
  std::vector<Row> rows;
  for (const FileToken& token : tokens) {
    const std::string_view bytes = token.bytes;
    for (size_t cut = 1; cut < bytes.size(); ++cut) {
      const auto left = id_of.find(bytes.substr(0, cut));
      if (left == id_of.end()) continue;
      const auto right = id_of.find(bytes.substr(cut));
      if (right != id_of.end()) rows.push_back({left->second, right->second, token.id});
    }
  }
  bpe->merges = MergeTable(rows.size());
  for (const Row& row : rows)
    bpe->merges.Set(row.left, row.right, {static_cast<uint32_t>(row.id), row.id});
}

// Where the file says how many tokens there are, ids must be 0 .. vocab_size - 1.
Status CheckVocabSize(const json::object& root, const Tokenizer::Impl& impl) {
  const json::value* value = Member(root, "vocab_size");
  if (value == nullptr) return {};
  const std::vector<TokenEntry>& entries = impl.vocabulary.entries();
  const int64_t* size = value->if_int64();
  if (size == nullptr || *size != static_cast<int64_t>(entries.size()) ||
      entries.back().id != *size - 1)
    return Error(Code::kBadCheckpoint, "vocab_size is {}, the file has {} tokens up to the id {}",
                 Quoted(json::serialize(*value)), entries.size(), entries.back().id);
  return {};
}

}  // namespace

Status ReadTokJson(std::string_view text, Tokenizer::Impl* impl) {
  json::monotonic_resource memory;
  TRY(const json::value document, ParseObject(text, &memory));
  const json::object& root = document.get_object();
  RETURN_IF_ERROR(ReadPattern(root, impl));
  TRY(const std::vector<FileToken> regular, ReadTokens(root, "regular_tokens"));
  TRY(const std::vector<FileToken> special, ReadTokens(root, "special_tokens"));
  RETURN_IF_ERROR(AddRegular(regular, impl));
  RETURN_IF_ERROR(AddSpecial(special, impl));
  RETURN_IF_ERROR(impl->vocabulary.Finish());
  RETURN_IF_ERROR(CheckVocabSize(root, *impl));
  AddMerges(regular, &impl->bpe);
  impl->bpe.ignore_merges = true;  // a piece that is a token needs no merging
  return {};
}

}  // namespace sluice
