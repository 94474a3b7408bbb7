#include "text/template/template.h"

#include "base/clock.h"
#include "text/template/content_parts.h"
#include "text/template/interpreter.h"
#include "text/template/json_value.h"
#include "text/template/lexer.h"
#include "text/template/parser.h"
#include "text/template/unicode.h"

namespace sluice {

struct ChatTemplate::Program {
  jinja::Body body;
  bool iterates_content_parts = false;
};

void TemplateInputs::AddData(std::string_view name, const boost::json::value& value) {
  entries_.emplace_back(name, &value);
}
void TemplateInputs::AddText(std::string_view name, std::string_view text) {
  entries_.emplace_back(name, std::string(text));
}
void TemplateInputs::AddFlag(std::string_view name, bool value) {
  entries_.emplace_back(name, value);
}
void TemplateInputs::AddNone(std::string_view name) { entries_.emplace_back(name, None{}); }

ChatTemplate::ChatTemplate(std::shared_ptr<const Program> program) : program_(std::move(program)) {}

Result<ChatTemplate> ChatTemplate::Parse(std::string_view source) {
  if (source.size() > kSourceBytesMax)
    return Error(Code::kInvalidArgument, "a chat template of {} bytes; at most {} are allowed",
                 source.size(), kSourceBytesMax);
  if (!jinja::IsUtf8(source))
    return Error(Code::kInvalidArgument, "the chat template is not UTF-8");
  const std::string normalized = jinja::NormalizeSource(source);
  auto program = std::make_shared<Program>();
  TRY(program->body, jinja::ParseTemplate(normalized));
  program->iterates_content_parts = jinja::IteratesContentParts(program->body);
  return ChatTemplate(std::move(program));
}

bool ChatTemplate::iterates_content_parts() const { return program_->iterates_content_parts; }

Result<RenderedText> ChatTemplate::Render(const TemplateInputs& inputs,
                                          const TemplateLimits& limits) const {
  auto scope = std::make_shared<jinja::Scope>();
  uint64_t input_bytes = 0;
  for (const auto& [name, entry] : inputs.entries()) {
    jinja::Value value{jinja::NoneValue{}};
    if (const bool* flag = std::get_if<bool>(&entry)) value = jinja::Value(*flag);
    if (const std::string* text = std::get_if<std::string>(&entry)) {
      input_bytes += text->size();
      value = jinja::Value::Trusted(*text);
    }
    if (const auto* json = std::get_if<const boost::json::value*>(&entry)) {
      TRY(value, jinja::FromJson(**json, input_bytes));
    }
    scope->variables.insert_or_assign(name, std::move(value));
  }
  jinja::Budget budget(limits.steps_max, limits.depth_max,
                       limits.output_bytes_base + limits.output_input_factor * input_bytes,
                       limits.work_bytes_base + limits.work_input_factor * input_bytes);
  jinja::Interpreter interpreter(budget, inputs.now_unix_s.value_or(UnixSeconds()));
  TRY(jinja::TracedText text, interpreter.Run(program_->body, std::move(scope)));
  return RenderedText{std::move(text.bytes), std::move(text.trusted)};
}

}  // namespace sluice
