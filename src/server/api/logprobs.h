// Log-probabilities in the three shapes that clients know.
#pragma once

#include <span>
#include <string>

#include "server/api/text_service.h"
#include "server/json/json_writer.h"
#include "sluice/sampling.h"

namespace sluice {

/// A token as text: its bytes if they are UTF-8, else `bytes:\xNN...`, as OpenAI's completions show
/// it. `text` may be null: then `token_id:N`.
std::string TokenLabel(const TextService* text, int32_t id, bool as_id);

/// {"content": [{token, bytes, logprob, top_logprobs: [...]}, ...]}: of chat.
void WriteChatLogprobs(JsonWriter& json, const TextService* text,
                       std::span<const PositionLogprobs> positions, bool tokens_as_ids);

/// {tokens, token_logprobs, top_logprobs, text_offset}: of completions. `offset` is the code points
/// before the first token, and is moved behind the last; special tokens take no room if they are
/// skipped in the text.
void WriteCompletionLogprobs(JsonWriter& json, const TextService* text,
                             std::span<const PositionLogprobs> positions, bool with_top,
                             bool tokens_as_ids, bool skip_special, size_t& offset);

/// [[logprob, id, text], ...]: of /generate. A missing log-probability is null.
void WriteNativeLogprobs(JsonWriter& json, const TextService* text,
                         std::span<const PositionLogprobs> positions);
/// [[[logprob, id, text], ...] or null, ...] of `top` or `asked`.
void WriteNativeLists(JsonWriter& json, const TextService* text,
                      std::span<const PositionLogprobs> positions,
                      std::vector<TokenLogprob> PositionLogprobs::*list);

}  // namespace sluice
