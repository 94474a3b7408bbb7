// Arbitrary bytes as a chat template over a fixed conversation; behind "JSON:" as messages for a
// fixed template. Whatever is accepted must give UTF-8 and sound ranges.
#include <boost/json.hpp>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "text/chat_messages.h"
#include "text/template/template.h"

namespace {

constexpr std::string_view kMessages = R"([{"role": "system", "content": "s é"},
  {"role": "user", "content": "hi\n<think> 1,2"}, {"role": "assistant", "content": "", "tool_calls":
  [{"type": "function", "function": {"name": "f", "arguments": {"a": [1, 2.5, null, true]}}}]},
  {"role": "tool", "content": "{\"r\": 1}"}])";

constexpr std::string_view kTemplate = R"({%- for m in messages %}
{{- '<|' ~ m.role ~ '|>' }}{% if m.content is string %}{{ m.content.split('</think>')[-1]|trim }}
{%- else %}{% for p in m.content %}{{ p.text|indent(2) }}{% endfor %}{% endif %}
{%- for c in m.tool_calls or [] %}{{ c.function.name ~ c.function.arguments|tojson(indent=1) }}
{{- c.function.arguments|dictsort }}{% endfor %}
{{- m|items|list|string|length }}{{ m|tojson }}{% endfor %})";

sluice::TemplateLimits SmallLimits() {
  sluice::TemplateLimits limits;
  limits.steps_max = 20000;
  limits.output_bytes_base = 1 << 16;
  limits.work_bytes_base = 1 << 23;
  return limits;
}

void Check(const sluice::ChatTemplate& chat_template, const boost::json::value& messages) {
  sluice::TemplateInputs inputs;
  inputs.AddData("messages", messages);
  inputs.AddText("bos_token", "<s>");
  inputs.AddFlag("add_generation_prompt", true);
  inputs.AddNone("tools");
  inputs.now_unix_s = 0;
  const auto rendered = chat_template.Render(inputs, SmallLimits());
  if (!rendered.ok()) {
    if (rendered.status().message().size() > 1000) std::abort();  // errors stay short
    return;
  }
  size_t end = 0;
  for (const sluice::ByteRange& range : rendered->trusted) {
    if (range.begin >= range.end || range.end > rendered->text.size()) std::abort();
    if (&range != rendered->trusted.data() && range.begin <= end) std::abort();
    end = range.end;
  }
  // A source for the parser must be UTF-8, so this checks the output.
  if (rendered->text.size() < sluice::ChatTemplate::kSourceBytesMax) {
    const auto again = sluice::ChatTemplate::Parse(rendered->text);
    if (!again.ok() && again.status().message() == "the chat template is not UTF-8") std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (text.starts_with("JSON:")) {
    static const auto fixed = sluice::ChatTemplate::Parse(kTemplate);
    boost::system::error_code error;
    const boost::json::value json = boost::json::parse(text.substr(5), error);
    if (error) return 0;
    const auto messages = sluice::NormalizeMessages(json, size % 2 == 0);
    if (messages.ok()) Check(*fixed, *messages);
    return 0;
  }
  static const boost::json::value messages = boost::json::parse(kMessages);
  const auto parsed = sluice::ChatTemplate::Parse(text);
  if (parsed.ok()) Check(*parsed, messages);
  if (!parsed.ok() && parsed.status().message().size() > 1000) std::abort();
  return 0;
}
