#include "text/front.h"

#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>

#include "base/mapped_file.h"
#include "text/chat_messages.h"
#include "text/family_chat.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kConfigBytesMax = uint64_t{16} << 20;

/// Names that a template knows by itself: a client's kwargs may not take their place.
constexpr std::string_view kReservedNames[] = {"messages",
                                               "tools",
                                               "documents",
                                               "add_generation_prompt",
                                               "continue_final_message",
                                               "strftime_now",
                                               "namespace",
                                               "dict",
                                               "raise_exception",
                                               "range",
                                               "loop",
                                               "caller",
                                               "varargs",
                                               "kwargs",
                                               "self",
                                               "bos_token",
                                               "eos_token",
                                               "pad_token",
                                               "unk_token",
                                               "sep_token",
                                               "cls_token",
                                               "mask_token"};

/// Stands behind the final message while it is rendered, to find where that ends. The blank at its
/// end tells whether the template keeps white space. Characters for private use: no text has them.
constexpr std::string_view kFinalMark = "\uE000final-message\uE001 ";

struct TextFiles {
  fs::path tokenizer, directory;
};

TextFiles FindFiles(const TextFrontOptions& options) {
  const fs::path path = options.tokenizer_path.empty() ? options.model_dir : options.tokenizer_path;
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return {path, path.parent_path()};
  const bool xai = !fs::exists(path / "tokenizer.json", ignored) &&
                   fs::exists(path / "tokenizer.tok.json", ignored);
  return {path / (xai ? "tokenizer.tok.json" : "tokenizer.json"), path};
}

Result<boost::json::object> ReadConfig(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return boost::json::object{};
  TRY(const std::string text, ReadFile(path.string(), kConfigBytesMax));
  boost::system::error_code error;
  boost::json::parse_options options;
  options.max_depth = 64;
  boost::json::value json = boost::json::parse(text, error, {}, options);
  if (error) return Error(Code::kBadCheckpoint, "{}: {}", path.string(), error.message());
  if (!json.is_object())
    return Error(Code::kBadCheckpoint, "{}: does not hold a JSON object", path.string());
  return std::move(json.get_object());
}

/// "bos_token": "<s>" or {"content": "<s>", ...}.
std::string TokenText(const boost::json::value& entry) {
  if (entry.is_string()) return std::string(entry.get_string());
  const boost::json::value* content =
      entry.is_object() ? entry.get_object().if_contains("content") : nullptr;
  return content && content->is_string() ? std::string(content->get_string()) : std::string();
}

using Sources = std::map<std::string, std::string>;  // template texts by name

Result<Sources> ConfigTemplates(const boost::json::object& config, const std::string& path) {
  Sources sources;
  const boost::json::value* entry = config.if_contains("chat_template");
  if (!entry || entry->is_null()) return sources;
  if (entry->is_string()) {
    sources.emplace("default", std::string(entry->get_string()));
    return sources;
  }
  if (!entry->is_array())
    return Error(Code::kBadCheckpoint, "{}: chat_template is neither a text nor a list", path);
  for (const boost::json::value& item : entry->get_array()) {
    const boost::json::object* row = item.if_object();
    const boost::json::value* name = row ? row->if_contains("name") : nullptr;
    const boost::json::value* text = row ? row->if_contains("template") : nullptr;
    if (!name || !name->is_string() || !text || !text->is_string())
      return Error(Code::kBadCheckpoint, "{}: a chat_template without name or template", path);
    sources.emplace(std::string(name->get_string()), std::string(text->get_string()));
  }
  return sources;
}

/// The override, else chat_template.jinja, else tokenizer_config.json, else the family's own.
Result<Sources> FindTemplates(const TextFrontOptions& options, const fs::path& directory,
                              const boost::json::object& config, const FamilyChat* family) {
  std::error_code ignored;
  fs::path file = options.chat_template_path;
  if (file.empty() && fs::exists(directory / "chat_template.jinja", ignored))
    file = directory / "chat_template.jinja";
  if (file.empty()) {
    TRY(Sources sources, ConfigTemplates(config, (directory / "tokenizer_config.json").string()));
    if (sources.empty() && family) sources.emplace("default", std::string(family->chat_template));
    return sources;
  }
  TRY(std::string text, ReadFile(file.string(), ChatTemplate::kSourceBytesMax));
  return Sources{{"default", std::move(text)}};
}

Status CheckKwargs(const boost::json::object& kwargs) {
  for (const auto& [name, value] : kwargs)
    if (std::find(std::begin(kReservedNames), std::end(kReservedNames), std::string_view(name)) !=
        std::end(kReservedNames))
      return ParamError(Code::kInvalidArgument, "chat_template_kwargs",
                        "chat_template_kwargs: {} belongs to the template and can not be set",
                        Quoted(std::string_view(name)));
  return {};
}

/// The text that a final message leaves open: its content or its last part.
Result<boost::json::string*> FinalText(boost::json::array& messages) {
  boost::json::object& last = messages.back().get_object();
  if (last["role"].get_string() != "assistant")
    return ParamError(Code::kInvalidArgument, "continue_final_message",
                      "continue_final_message: the last message is of the {}, not of the assistant",
                      std::string_view(last["role"].get_string()));
  boost::json::value& content = last["content"];
  if (content.is_string()) return &content.get_string();
  if (content.get_array().empty())
    content.get_array().push_back(boost::json::object{{"type", "text"}, {"text", ""}});
  return &content.get_array().back().get_object()["text"].get_string();
}

void CutAt(size_t end, RenderedText& rendered) {
  rendered.text.resize(end);
  while (!rendered.trusted.empty() && rendered.trusted.back().begin >= end)
    rendered.trusted.pop_back();
  if (!rendered.trusted.empty())
    rendered.trusted.back().end = std::min(rendered.trusted.back().end, end);
}

/// Cuts a rendering behind its final message.
Status LeaveOpen(RenderedText& rendered) {
  const std::string_view mark = kFinalMark.substr(0, kFinalMark.size() - 1);
  size_t end = rendered.text.rfind(mark);
  if (end == std::string::npos)
    return ParamError(Code::kInvalidArgument, "continue_final_message",
                      "continue_final_message: the chat template does not show the final message");
  const bool keeps_space = rendered.text.compare(end, kFinalMark.size(), kFinalMark) == 0;
  while (!keeps_space && end > 0 &&
         std::string_view(" \t\r\n").find(rendered.text[end - 1]) != std::string_view::npos)
    --end;
  CutAt(end, rendered);
  return {};
}

/// The ranges between the trusted ones.
std::vector<ByteRange> PlainRanges(const RenderedText& rendered) {
  std::vector<ByteRange> plain;
  size_t begin = 0;
  for (const ByteRange& range : rendered.trusted) {
    if (begin < range.begin) plain.push_back({begin, range.begin});
    begin = range.end;
  }
  if (begin < rendered.text.size()) plain.push_back({begin, rendered.text.size()});
  return plain;
}

}  // namespace

ThinkingState FindThinkingState(const RenderedText& prompt) {
  // The run of one origin at the end: the generation prompt, or a final message that was left open.
  size_t begin = prompt.trusted.empty() ? 0 : prompt.trusted.back().end;
  if (!prompt.trusted.empty() && begin == prompt.text.size()) begin = prompt.trusted.back().begin;
  const std::string_view tail = std::string_view(prompt.text).substr(begin);
  const size_t open = tail.rfind("<think>"), close = tail.rfind("</think>");
  if (open == std::string_view::npos && close == std::string_view::npos)
    return ThinkingState::kNone;
  if (close == std::string_view::npos) return ThinkingState::kOpen;
  return open != std::string_view::npos && open > close ? ThinkingState::kOpen
                                                        : ThinkingState::kClosed;
}

Result<TextFront> TextFront::Open(const TextFrontOptions& options) {
  const TextFiles files = FindFiles(options);
  TextFront front;
  TRY(front.tokenizer_, Tokenizer::Load(files.tokenizer.string()));
  TRY(const boost::json::object config, ReadConfig(files.directory / "tokenizer_config.json"));
  const FamilyChat* family = FindFamilyChat(options.architecture);
  for (const char* name : {"bos_token", "eos_token", "pad_token"}) front.tokens_[name];
  if (family) front.AddFamilyTokens(*family);
  for (const auto& [key, entry] : config)
    if (std::string_view(key).ends_with("_token")) {
      const std::string text = TokenText(entry);
      if (!text.empty()) front.tokens_[std::string(key)] = text;
    }
  const boost::json::value* add_bos = config.if_contains("add_bos_token");
  front.add_bos_token_ = add_bos && add_bos->is_bool() && add_bos->get_bool();
  TRY(const Sources sources, FindTemplates(options, files.directory, config, family));
  for (const auto& [name, source] : sources) {
    // Templates for other purposes (retrieval, say) are never asked for.
    if (name != "default" && name != "tool_use" && sources.size() > 1) continue;
    TRY(ChatTemplate parsed, ChatTemplate::Parse(source));
    front.templates_.emplace(name == "tool_use" ? name : "default", std::move(parsed));
    if (name != "tool_use" || sources.size() == 1) front.template_source_ = source;
  }
  front.limits_ = options.template_limits;
  return front;
}

void TextFront::AddFamilyTokens(const FamilyChat& family) {
  for (const std::string_view text : family.stop_tokens)
    if (const auto id = tokenizer_->FindId(text)) stop_token_ids_.push_back(*id);
  if (tokenizer_->FindId(family.eos_token)) tokens_["eos_token"] = family.eos_token;
  if (tokenizer_->FindId(family.pad_token)) tokens_["pad_token"] = family.pad_token;
}

const ChatTemplate* TextFront::TemplateFor(bool with_tools) const {
  const auto tool_use = templates_.find("tool_use"), plain = templates_.find("default");
  if (with_tools && tool_use != templates_.end()) return &tool_use->second;
  if (plain != templates_.end()) return &plain->second;
  return tool_use != templates_.end() ? &tool_use->second : nullptr;
}

Result<std::vector<int32_t>> TextFront::EncodePrompt(std::string_view text,
                                                     bool add_special_tokens) const {
  EncodeOptions options;
  options.add_special_tokens = add_special_tokens;
  std::vector<int32_t> ids = tokenizer_->Encode(text, options);
  return add_special_tokens ? WithBos(std::move(ids)) : std::move(ids);
}

// Adds the BOS that the configuration asks for, if nothing else has put it there.
std::vector<int32_t> TextFront::WithBos(std::vector<int32_t> ids) const {
  const std::optional<int32_t> bos =
      add_bos_token_ ? tokenizer_->FindId(bos_token()) : std::nullopt;
  if (bos && (ids.empty() || ids.front() != *bos)) ids.insert(ids.begin(), *bos);
  return ids;
}

Result<RenderedText> TextFront::RenderChat(const ChatInput& input) const {
  const bool with_tools =
      input.tools && input.tools->is_array() && !input.tools->get_array().empty();
  const ChatTemplate* chat_template = TemplateFor(with_tools);
  if (!chat_template)
    return ParamError(
        Code::kInvalidArgument, "messages",
        "chat template missing: this model has none; give one with --chat-template, or "
        "use /v1/completions or /generate");
  static const boost::json::value kNoMessages;
  TRY(boost::json::array messages, NormalizeMessages(input.messages ? *input.messages : kNoMessages,
                                                     chat_template->iterates_content_parts()));
  if (input.continue_final_message) {
    TRY(boost::json::string * text, FinalText(messages));
    text->append(kFinalMark);
  }
  TemplateInputs inputs;
  const boost::json::value message_list(std::move(messages));
  inputs.AddData("messages", message_list);
  inputs.AddNone("tools");
  inputs.AddNone("documents");
  if (input.tools && !input.tools->is_null()) {
    RETURN_IF_ERROR(CheckTools(*input.tools));
    if (with_tools) inputs.AddData("tools", *input.tools);
  }
  inputs.AddFlag("add_generation_prompt",
                 input.add_generation_prompt && !input.continue_final_message);
  for (const auto& [name, text] : tokens_)
    if (!text.empty()) inputs.AddText(name, text);
  if (input.kwargs) {
    RETURN_IF_ERROR(CheckKwargs(*input.kwargs));
    for (const auto& [name, value] : *input.kwargs) inputs.AddData(name, value);
  }
  TRY(RenderedText rendered, chat_template->Render(inputs, limits_));
  if (input.continue_final_message) RETURN_IF_ERROR(LeaveOpen(rendered));
  return rendered;
}

Result<ChatPrompt> TextFront::EncodeChat(const ChatInput& input) const {
  ChatPrompt prompt;
  TRY(prompt.rendered, RenderChat(input));
  const std::vector<ByteRange> plain = PlainRanges(prompt.rendered);
  EncodeOptions options;
  options.plain = plain;
  prompt.ids = WithBos(tokenizer_->Encode(prompt.rendered.text, options));
  prompt.thinking = FindThinkingState(prompt.rendered);
  return prompt;
}

}  // namespace sluice
