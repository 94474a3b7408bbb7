// Reads tokenizer.json. Whatever would change the ids and is not implemented is refused by name.
#include <algorithm>
#include <climits>
#include <unordered_map>

#include "text/tokenizer/json_members.h"
#include "text/tokenizer/nfc.h"
#include "text/tokenizer/pipeline.h"

namespace sluice {
namespace {

constexpr size_t kStepsMax = 8;

// --- normalizer, pre_tokenizer
// -----------------------------------------------------------------------

// Calls visit(member, name) for an object, or for each member of a Sequence of them.
template <class Visit>
Status VisitSequence(const json::object& object, const std::string& where,
                     std::string_view list_key, const Visit& visit) {
  TRY(const std::string_view type, StringMember(object, where, "type"));
  if (type != "Sequence") return visit(object, type, where);
  TRY(const json::array* list, ArrayMember(object, where, list_key));
  for (size_t i = 0; i < list->size(); ++i) {
    const std::string name = fmt::format("{}.{}[{}]", where, list_key, i);
    if (!(*list)[i].is_object()) return Bad(name, "is not an object");
    const json::object& member = (*list)[i].get_object();
    TRY(const std::string_view member_type, StringMember(member, name, "type"));
    RETURN_IF_ERROR(visit(member, member_type, name));
  }
  return {};
}

Status ReadNormalizer(const json::object& root, Tokenizer::Impl* impl) {
  TRY(const json::object* normalizer, ObjectMember(root, "", "normalizer"));
  if (normalizer == nullptr) return {};
  return VisitSequence(
      *normalizer, "normalizer", "normalizers",
      [&](const json::object&, std::string_view type, const std::string& where) -> Status {
        if (type != "NFC") return Unsupported(where + ".type", type, "NFC, or null");
        impl->nfc = true;
        return {};
      });
}

Status ReadSplit(const json::object& split, const std::string& where, Tokenizer::Impl* impl) {
  TRY(const json::object* pattern, ObjectMember(split, where + ".", "pattern"));
  if (pattern == nullptr) return Bad(where, "has no pattern");
  TRY(const std::string_view regex, StringMember(*pattern, where + ".pattern", "Regex"));
  const std::optional<Scanner> scanner = FindScanner(regex);
  if (!scanner)
    return Unsupported(where + ".pattern.Regex", regex,
                       "the patterns of GPT-2, GPT-4, Qwen2/Qwen3, Ling, Llama-3 and DeepSeek-V3");
  TRY(const std::string_view behavior, StringMember(split, where, "behavior"));
  if (behavior != "Isolated") return Unsupported(where + ".behavior", behavior, "Isolated");
  TRY(const bool invert, BoolMember(split, where, "invert", false));
  if (invert) return Unsupported(where + ".invert", "true", "false");
  impl->steps.push_back({false, scanner});
  return {};
}

Status ReadPreTokenStep(const json::object& step, std::string_view type, const std::string& where,
                        Tokenizer::Impl* impl, bool* is_byte_level) {
  if (impl->steps.size() == kStepsMax)
    return Error(Code::kUnsupported, "pre_tokenizer has more than {} steps", kStepsMax);
  if (*is_byte_level) return Unsupported(where + ".type", type, "nothing after ByteLevel");
  if (type == "Split") return ReadSplit(step, where, impl);
  if (type == "Digits") {
    TRY(const bool individual, BoolMember(step, where, "individual_digits", false));
    impl->steps.push_back({false, individual ? Scanner::kEachDigit : Scanner::kDigitRuns});
    return {};
  }
  if (type != "ByteLevel")
    return Unsupported(where + ".type", type,
                       "Split, Digits and ByteLevel (and a Sequence of them)");
  TRY(const bool prefix_space, BoolMember(step, where, "add_prefix_space", true));
  TRY(const bool use_regex, BoolMember(step, where, "use_regex", true));
  *is_byte_level = true;
  if (prefix_space || use_regex)
    impl->steps.push_back({prefix_space, use_regex ? std::optional(Scanner::kGpt2) : std::nullopt});
  return {};
}

Status ReadPreTokenizer(const json::object& root, Tokenizer::Impl* impl) {
  TRY(const json::object* pre_tokenizer, ObjectMember(root, "", "pre_tokenizer"));
  if (pre_tokenizer == nullptr)
    return Unsupported("pre_tokenizer", "null", "byte-level tokenizers, which end in ByteLevel");
  bool is_byte_level = false;
  RETURN_IF_ERROR(
      VisitSequence(*pre_tokenizer, "pre_tokenizer", "pretokenizers",
                    [&](const json::object& step, std::string_view type, const std::string& where) {
                      return ReadPreTokenStep(step, type, where, impl, &is_byte_level);
                    }));
  if (!is_byte_level) return Bad("pre_tokenizer", "does not end in ByteLevel");
  return {};
}

Status CheckDecoder(const json::object& root) {
  TRY(const json::object* decoder, ObjectMember(root, "", "decoder"));
  if (decoder == nullptr) return Unsupported("decoder", "null", "ByteLevel");
  int byte_levels = 0;
  RETURN_IF_ERROR(VisitSequence(
      *decoder, "decoder", "decoders",
      [&](const json::object&, std::string_view type, const std::string& where) -> Status {
        byte_levels += type == "ByteLevel";
        if (type == "ByteLevel" || type == "Fuse") return {};
        return Unsupported(where + ".type", type, "ByteLevel (and a Sequence of it and Fuse)");
      }));
  if (byte_levels != 1) return Bad("decoder", "does not have one ByteLevel step");
  return {};
}

// --- post_processor
// ----------------------------------------------------------------------------------

Status AppendTemplateIds(const json::object& post_processor, std::string_view token,
                         const std::string& where, std::vector<int32_t>* ids) {
  TRY(const json::object* tokens, ObjectMember(post_processor, where + ".", "special_tokens"));
  const json::value* entry = tokens == nullptr ? nullptr : Member(*tokens, token);
  if (entry == nullptr || !entry->is_object())
    return Error(Code::kBadCheckpoint, "{}.special_tokens lacks {}", where, Quoted(token));
  TRY(const json::array* list, ArrayMember(entry->get_object(), where, "ids"));
  for (const json::value& value : *list) {
    TRY(const int32_t id, ReadId(value, where));
    ids->push_back(id);
  }
  return {};
}

Status ReadTemplate(const json::object& post_processor, const std::string& where,
                    Tokenizer::Impl* impl) {
  TRY(const json::array* single, ArrayMember(post_processor, where, "single"));
  int sequences = 0;
  for (const json::value& piece : *single) {
    if (!piece.is_object()) return Bad(where, "has a piece that is not an object");
    if (Member(piece.get_object(), "Sequence") != nullptr) {
      ++sequences;
      continue;
    }
    TRY(const json::object* special, ObjectMember(piece.get_object(), where + ".", "SpecialToken"));
    if (special == nullptr) return Bad(where, "has a piece of unknown kind");
    TRY(const std::string_view token, StringMember(*special, where, "id"));
    RETURN_IF_ERROR(AppendTemplateIds(post_processor, token, where,
                                      sequences == 0 ? &impl->before : &impl->after));
  }
  if (sequences != 1)
    return Error(Code::kUnsupported, "{}.single has the text {} times; supported: once", where,
                 sequences);
  return {};
}

Status ReadPostProcessor(const json::object& root, Tokenizer::Impl* impl) {
  TRY(const json::object* post_processor, ObjectMember(root, "", "post_processor"));
  if (post_processor == nullptr) return {};
  int templates = 0;
  return VisitSequence(
      *post_processor, "post_processor", "processors",
      [&](const json::object& step, std::string_view type, const std::string& where) -> Status {
        if (type == "ByteLevel") return {};  // concerns offsets only
        if (type != "TemplateProcessing" || ++templates > 1)
          return Unsupported(where + ".type", type, "ByteLevel and one TemplateProcessing");
        return ReadTemplate(step, where, impl);
      });
}

// --- model, added_tokens
// -----------------------------------------------------------------------------

// The file's tokens before they are entered into the vocabulary.
struct FileTokens {
  const json::object* model_vocab = nullptr;
  std::vector<AddedToken> added;
  std::unordered_map<std::string_view, const AddedToken*> added_by_content;  // into `added`
};

Status ReadAddedToken(const json::object& object, const std::string& where, AddedToken* token) {
  const json::value* id = Member(object, "id");
  if (id == nullptr) return Bad(where, "has no id");
  TRY(token->id, ReadId(*id, where));
  TRY(const std::string_view content, StringMember(object, where, "content"));
  if (content.empty()) return Bad(where, "has no content");
  if (content.size() > kTokenBytesMax)
    return Error(Code::kTooLarge, "{} has {} bytes, at most {}", where, content.size(),
                 kTokenBytesMax);
  token->content = content;
  TRY(token->special, BoolMember(object, where, "special", false));
  TRY(token->single_word, BoolMember(object, where, "single_word", false));
  TRY(token->lstrip, BoolMember(object, where, "lstrip", false));
  TRY(token->rstrip, BoolMember(object, where, "rstrip", false));
  TRY(token->normalized, BoolMember(object, where, "normalized", !token->special));
  return {};
}

Status ReadAddedTokens(const json::object& root, FileTokens* tokens) {
  if (Member(root, "added_tokens") == nullptr) return {};
  TRY(const json::array* list, ArrayMember(root, "tokenizer", "added_tokens"));
  tokens->added.reserve(list->size());
  for (size_t i = 0; i < list->size(); ++i) {
    const std::string where = fmt::format("added_tokens[{}]", i);
    if (!(*list)[i].is_object()) return Bad(where, "is not an object");
    AddedToken token;
    RETURN_IF_ERROR(ReadAddedToken((*list)[i].get_object(), where, &token));
    tokens->added.push_back(std::move(token));
    const AddedToken& added = tokens->added.back();  // does not move: reserved above
    if (!tokens->added_by_content.emplace(added.content, &added).second)
      return Error(Code::kBadCheckpoint, "{} repeats the token {}", where, Quoted(added.content));
  }
  return {};
}

std::string DecodedText(const AddedToken& token, bool nfc) {
  return token.normalized && nfc ? ToNfc(token.content) : token.content;
}

Status FillVocabulary(const FileTokens& tokens, Tokenizer::Impl* impl) {
  for (const auto& [key, value] : *tokens.model_vocab) {
    const std::string_view text = key;
    TRY(const int32_t id, ReadId(value, fmt::format("model.vocab[{}]", Quoted(text))));
    impl->bpe.token_text_bytes_max = std::max(impl->bpe.token_text_bytes_max, text.size());
    const auto added = tokens.added_by_content.find(text);
    if (added == tokens.added_by_content.end()) {
      impl->vocabulary.Add(id, text, text, false, true);
    } else if (added->second->id == id) {
      impl->vocabulary.Add(id, text, DecodedText(*added->second, impl->nfc), added->second->special,
                           true);
    } else {
      return Error(Code::kBadCheckpoint,
                   "token {} has the id {} in model.vocab and {} in added_tokens", Quoted(text), id,
                   added->second->id);
    }
  }
  for (const AddedToken& token : tokens.added)
    if (!tokens.model_vocab->contains(token.content))
      impl->vocabulary.Add(token.id, token.content, DecodedText(token, impl->nfc), token.special,
                           false);
  return impl->vocabulary.Finish();
}

AddedTokenMatcher MatcherOf(const std::vector<AddedToken>& added, bool normalized, bool nfc) {
  std::vector<AddedToken> tokens;
  std::vector<std::string> patterns;
  for (const AddedToken& token : added) {
    if (token.normalized != normalized) continue;
    tokens.push_back(token);
    patterns.push_back(DecodedText(token, nfc));
  }
  return AddedTokenMatcher(std::move(tokens), patterns);
}

// "a b" or ["a", "b"].
Status SplitMerge(const json::value& merge, size_t merge_idx, std::string_view* left,
                  std::string_view* right) {
  if (const json::string* text = merge.if_string()) {
    const std::string_view pair = *text;
    const size_t space = pair.find(' ');
    if (space != std::string_view::npos && pair.find(' ', space + 1) == std::string_view::npos) {
      *left = pair.substr(0, space);
      *right = pair.substr(space + 1);
      return {};
    }
  } else if (const json::array* parts = merge.if_array(); parts != nullptr && parts->size() == 2 &&
                                                          (*parts)[0].is_string() &&
                                                          (*parts)[1].is_string()) {
    *left = (*parts)[0].get_string();
    *right = (*parts)[1].get_string();
    return {};
  }
  return Error(Code::kBadCheckpoint, "model.merges[{}] is {}, not a pair of tokens", merge_idx,
               Quoted(json::serialize(merge)));
}

Status ReadMerges(const json::object& model, Tokenizer::Impl* impl) {
  TRY(const json::array* merges, ArrayMember(model, "model", "merges"));
  impl->bpe.merges = MergeTable(merges->size());
  const auto find = [&](std::string_view text) -> const TokenEntry* {
    const TokenEntry* entry = impl->vocabulary.FindText(text);
    return entry != nullptr && entry->in_model ? entry : nullptr;
  };
  std::string joined;
  for (size_t i = 0; i < merges->size(); ++i) {
    if (const json::string* text = (*merges)[i].if_string();
        text != nullptr && text->starts_with("#version"))
      continue;  // the first line of a merges.txt
    std::string_view left, right;
    RETURN_IF_ERROR(SplitMerge((*merges)[i], i, &left, &right));
    joined.assign(left).append(right);
    const TokenEntry* const parts[] = {find(left), find(right), find(joined)};
    for (const auto& [entry, text] : {std::pair(parts[0], left), std::pair(parts[1], right),
                                      std::pair(parts[2], std::string_view(joined))})
      if (entry == nullptr)
        return Error(Code::kBadCheckpoint, "model.merges[{}] uses {}, which is not in model.vocab",
                     i, Quoted(text));
    impl->bpe.merges.Set(parts[0]->id, parts[1]->id, {static_cast<uint32_t>(i), parts[2]->id});
  }
  return {};
}

Status ReadUnknownToken(const json::object& model, Tokenizer::Impl* impl) {
  bool all_bytes = true;
  for (int byte = 0; byte < 256; ++byte) {
    const TokenEntry* entry = impl->vocabulary.FindText(ByteToAlphabet(static_cast<uint8_t>(byte)));
    if (entry != nullptr && !entry->in_model) entry = nullptr;
    impl->bpe.byte_ids[byte] = entry != nullptr ? entry->id : -1;
    all_bytes &= entry != nullptr;
    if (entry != nullptr && entry->special)
      return Error(Code::kUnsupported,
                   "the token {} of a single byte is marked special; supported: no",
                   Quoted(impl->vocabulary.TextOf(*entry)));
  }
  if (all_bytes) return {};
  TRY(const bool byte_fallback, BoolMember(model, "model", "byte_fallback", false));
  if (byte_fallback)
    return Unsupported("model.byte_fallback", "true", "false where a byte lacks a token");
  TRY(impl->bpe.fuse_unknown, BoolMember(model, "model", "fuse_unk", false));
  TRY(const std::string_view unknown, StringMember(model, "model", "unk_token"));
  if (unknown.empty()) return {};
  const TokenEntry* entry = impl->vocabulary.FindText(unknown);
  if (entry == nullptr || !entry->in_model)
    return Error(Code::kBadCheckpoint, "model.unk_token {} is not in model.vocab", Quoted(unknown));
  impl->bpe.unknown_id = entry->id;
  return {};
}

Status CheckModelSettings(const json::object& model) {
  TRY(const std::string_view type, StringMember(model, "model", "type"));
  if (!type.empty() && type != "BPE") return Unsupported("model.type", type, "BPE");
  if (const json::value* dropout = Member(model, "dropout"))
    if (!dropout->is_number() || dropout->to_number<double>() != 0)
      return Unsupported("model.dropout", json::serialize(*dropout), "null or 0");
  for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    TRY(const std::string_view text, StringMember(model, "model", key));
    if (!text.empty()) return Unsupported(fmt::format("model.{}", key), text, "null or empty");
  }
  return {};
}

// Notes the special tokens that BPE itself can produce, so that text from outside can be kept from
// it.
void FindMakeableSpecial(Tokenizer::Impl* impl) {
  const auto add = [&](const TokenEntry& entry) {
    if (!entry.special || entry.id == impl->bpe.unknown_id) return;
    std::vector<int32_t> ids;
    for (const char byte : impl->vocabulary.BytesOf(entry))
      if (const int32_t id = impl->bpe.byte_ids[static_cast<uint8_t>(byte)]; id >= 0)
        ids.push_back(id);
    impl->makeable_special.emplace_back(entry.id, std::move(ids));
  };
  if (impl->bpe.ignore_merges) {
    for (const TokenEntry& entry : impl->vocabulary.entries())
      if (entry.in_model) add(entry);
    return;
  }
  std::vector<int32_t> made;
  impl->bpe.merges.ForEach([&](int32_t, int32_t, const MergeTable::Merge& merge) {
    if (impl->vocabulary.FindId(merge.id)->special) made.push_back(merge.id);
  });
  std::sort(made.begin(), made.end());
  made.erase(std::unique(made.begin(), made.end()), made.end());
  for (const int32_t id : made) add(*impl->vocabulary.FindId(id));
}

Status ReadModel(const json::object& root, Tokenizer::Impl* impl) {
  TRY(const json::object* model, ObjectMember(root, "", "model"));
  if (model == nullptr) return Bad("model", "is missing");
  RETURN_IF_ERROR(CheckModelSettings(*model));
  FileTokens tokens;
  TRY(tokens.model_vocab, ObjectMember(*model, "model.", "vocab"));
  if (tokens.model_vocab == nullptr) return Bad("model.vocab", "is missing");
  RETURN_IF_ERROR(ReadAddedTokens(root, &tokens));
  RETURN_IF_ERROR(FillVocabulary(tokens, impl));
  RETURN_IF_ERROR(ReadMerges(*model, impl));
  RETURN_IF_ERROR(ReadUnknownToken(*model, impl));
  TRY(impl->bpe.ignore_merges, BoolMember(*model, "model", "ignore_merges", false));
  FindMakeableSpecial(impl);
  impl->raw_matcher = MatcherOf(tokens.added, false, impl->nfc);
  impl->normalized_matcher = MatcherOf(tokens.added, true, impl->nfc);
  return {};
}

Status CheckTemplateIds(const Tokenizer::Impl& impl) {
  for (const std::vector<int32_t>* ids : {&impl.before, &impl.after})
    for (const int32_t id : *ids)
      if (impl.vocabulary.FindId(id) == nullptr)
        return Error(Code::kBadCheckpoint, "post_processor adds the id {}, which no token has", id);
  return {};
}

}  // namespace

Status ReadTokenizerJson(std::string_view text, Tokenizer::Impl* impl) {
  json::monotonic_resource memory;
  TRY(const json::value document, ParseObject(text, &memory));
  const json::object& root = document.get_object();
  RETURN_IF_ERROR(ReadNormalizer(root, impl));
  RETURN_IF_ERROR(ReadPreTokenizer(root, impl));
  RETURN_IF_ERROR(CheckDecoder(root));
  RETURN_IF_ERROR(ReadPostProcessor(root, impl));
  RETURN_IF_ERROR(ReadModel(root, impl));
  return CheckTemplateIds(*impl);
}

}  // namespace sluice
