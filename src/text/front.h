// The text front: messages to token ids, prompts to token ids. It joins a checkpoint's tokenizer
// with its chat template. Token ids back to text: tokenizer/.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/template/template.h"
#include "text/tokenizer/tokenizer.h"

namespace boost::json {
class object;
class value;
}  // namespace boost::json

namespace sluice {

struct FamilyChat;

/// Where the text part of a checkpoint lies.
struct TextFrontOptions {
  std::string model_dir;
  std::string tokenizer_path;      // directory or tokenizer file; default: model_dir
  std::string chat_template_path;  // a file that replaces the checkpoint's template
  std::string architecture;        // config.json's: gives what its family does not ship
  TemplateLimits template_limits;
};

/// One chat request, as the client sent it. Borrowed.
struct ChatInput {
  const boost::json::value* messages = nullptr;  // array of objects
  const boost::json::value* tools = nullptr;     // array of objects, or null
  const boost::json::object* kwargs = nullptr;   // chat_template_kwargs, or null: data only
  bool add_generation_prompt = true;
  bool continue_final_message = false;  // the last assistant message is left open
};

/// Where a prompt stands towards a `<think>` block (serving: does the answer start in reasoning?).
enum class ThinkingState {
  kNone,    // no block at the end
  kOpen,    // the prompt ends inside a block: the model goes on reasoning
  kClosed,  // the template closed the block: the model answers
};

/// The state at the end of a rendered prompt: the last `<think>` or `</think>` in the generation
/// prompt (what the template wrote behind the last message), or in a final message that was left
/// open.
ThinkingState FindThinkingState(const RenderedText& prompt);

/// A rendered conversation.
struct ChatPrompt {
  std::vector<int32_t> ids;
  RenderedText rendered;
  ThinkingState thinking = ThinkingState::kNone;
};

/// Thread-safe once opened.
class TextFront {
 public:
  /// Reads tokenizer.json (or tokenizer.tok.json), tokenizer_config.json, chat_template.jinja or
  /// the override, else the family's own format. Errors: kNotFound if there is no tokenizer (the
  /// model can then be served in ids only), kBadCheckpoint for a damaged file, kInvalidArgument for
  /// a template that does not parse (with its line).
  static Result<TextFront> Open(const TextFrontOptions& options);

  const Tokenizer& tokenizer() const { return *tokenizer_; }
  bool has_chat_template() const { return !templates_.empty(); }
  /// The template text in use without tools, or empty.
  const std::string& chat_template_source() const { return template_source_; }

  /// From tokenizer_config.json; empty where the checkpoint names none.
  const std::string& bos_token() const { return tokens_.at("bos_token"); }
  const std::string& eos_token() const { return tokens_.at("eos_token"); }
  const std::string& pad_token() const { return tokens_.at("pad_token"); }
  /// Ids of the tokenizer that end an answer in this family, beside those of config.json.
  const std::vector<int32_t>& stop_token_ids() const { return stop_token_ids_; }

  /// A plain prompt, as `tokenizers` encodes it: special tokens in the text become their ids, and
  /// the tokenizer's own rule (or add_bos_token) adds BOS, unless `add_special_tokens` is false.
  Result<std::vector<int32_t>> EncodePrompt(std::string_view text,
                                            bool add_special_tokens = true) const;

  /// A conversation. Special tokens come from the template only: text of messages, tools and kwargs
  /// is tokenised as text. Errors, all kInvalidArgument: "chat template missing: ..." (param
  /// `messages`), a malformed message (param `messages[i].role` and so on), kwargs that shadow a
  /// variable of the template (param `chat_template_kwargs`), what the template raises.
  Result<ChatPrompt> EncodeChat(const ChatInput& input) const;

  /// The rendering half of EncodeChat.
  Result<RenderedText> RenderChat(const ChatInput& input) const;

 private:
  TextFront() = default;
  void AddFamilyTokens(const FamilyChat& family);
  const ChatTemplate* TemplateFor(bool with_tools) const;
  std::vector<int32_t> WithBos(std::vector<int32_t> ids) const;

  std::shared_ptr<const Tokenizer> tokenizer_;
  std::map<std::string, ChatTemplate> templates_;  // "default" and "tool_use"
  std::map<std::string, std::string> tokens_;      // bos_token, eos_token, pad_token, ...
  std::vector<int32_t> stop_token_ids_;
  std::string template_source_;
  TemplateLimits limits_;
  bool add_bos_token_ = false;
};

}  // namespace sluice
