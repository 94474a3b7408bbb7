#include "server/api/logprobs.h"

#include <fmt/core.h>

#include <algorithm>

#include "server/json/utf8.h"

namespace sluice {
namespace {

void WriteBytes(JsonWriter& json, std::string_view bytes) {
  json.BeginArray();
  for (const char c : bytes) json.Int(static_cast<unsigned char>(c));
  json.EndArray();
}

/// token, bytes, logprob: the fields of a chat token.
void WriteChatToken(JsonWriter& json, const TextService* text, int32_t id, float logprob,
                    bool tokens_as_ids) {
  json.Key("token");
  if (!text || tokens_as_ids) {
    json.String(fmt::format("token_id:{}", id)).Key("bytes").Null();
  } else {
    json.String(text->TokenBytes(id)).Key("bytes");  // the writer repairs parts of characters
    WriteBytes(json, text->TokenBytes(id));
  }
  json.Key("logprob").Number(logprob);
}

void WriteTriple(JsonWriter& json, const TextService* text, int32_t id, const float* logprob) {
  json.BeginArray();
  logprob ? json.Number(*logprob) : json.Null();
  json.Int(id);
  text ? json.String(text->TokenBytes(id)) : json.Null();
  json.EndArray();
}

}  // namespace

std::string TokenLabel(const TextService* text, int32_t id, bool as_id) {
  if (!text || as_id) return fmt::format("token_id:{}", id);
  const std::string_view bytes = text->TokenBytes(id);
  if (!FindInvalidUtf8(bytes)) return std::string(bytes);
  std::string label = "bytes:";
  for (const char c : bytes) label += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return label;
}

void WriteChatLogprobs(JsonWriter& json, const TextService* text,
                       std::span<const PositionLogprobs> positions, bool tokens_as_ids) {
  json.BeginObject().Key("content").BeginArray();
  for (const PositionLogprobs& position : positions) {
    json.BeginObject();
    WriteChatToken(json, text, position.id, position.logprob.value_or(0), tokens_as_ids);
    json.Key("top_logprobs").BeginArray();
    for (const TokenLogprob& token : position.top) {
      json.BeginObject();
      WriteChatToken(json, text, token.id, token.logprob, tokens_as_ids);
      json.EndObject();
    }
    json.EndArray().EndObject();
  }
  json.EndArray().EndObject();
}

void WriteCompletionLogprobs(JsonWriter& json, const TextService* text,
                             std::span<const PositionLogprobs> positions, bool with_top,
                             bool tokens_as_ids, bool skip_special, size_t& offset) {
  json.BeginObject().Key("tokens").BeginArray();
  for (const auto& position : positions) json.String(TokenLabel(text, position.id, tokens_as_ids));
  json.EndArray().Key("token_logprobs").BeginArray();
  for (const auto& position : positions)
    position.logprob ? json.Number(*position.logprob) : json.Null();
  json.EndArray().Key("top_logprobs");
  if (!with_top) {
    json.Null();
  } else {
    json.BeginArray();
    for (const auto& position : positions) {
      if (!position.logprob) {
        json.Null();
        continue;
      }
      // Texts can be equal; the list is descending, so the first is the best and is kept.
      json.BeginObject();
      std::vector<std::string> labels;
      for (const TokenLogprob& token : position.top) {
        std::string label = TokenLabel(text, token.id, tokens_as_ids);
        if (std::find(labels.begin(), labels.end(), label) != labels.end()) continue;
        json.Key(label).Number(token.logprob);
        labels.push_back(std::move(label));
      }
      json.EndObject();
    }
    json.EndArray();
  }
  json.Key("text_offset").BeginArray();
  for (const auto& position : positions) {
    json.Uint(offset);
    if (text && !(skip_special && text->IsSpecial(position.id)))
      offset += CountCodePoints(text->TokenBytes(position.id));
  }
  json.EndArray().EndObject();
}

void WriteNativeLogprobs(JsonWriter& json, const TextService* text,
                         std::span<const PositionLogprobs> positions) {
  json.BeginArray();
  for (const auto& position : positions)
    WriteTriple(json, text, position.id, position.logprob ? &*position.logprob : nullptr);
  json.EndArray();
}

void WriteNativeLists(JsonWriter& json, const TextService* text,
                      std::span<const PositionLogprobs> positions,
                      std::vector<TokenLogprob> PositionLogprobs::*list) {
  json.BeginArray();
  for (const auto& position : positions) {
    if (!position.logprob) {
      json.Null();
      continue;
    }
    json.BeginArray();
    for (const TokenLogprob& token : position.*list)
      WriteTriple(json, text, token.id, &token.logprob);
    json.EndArray();
  }
  json.EndArray();
}

}  // namespace sluice
