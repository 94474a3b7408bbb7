#include "text/family_chat.h"

namespace sluice {
namespace {

// Grok-2 writes turns as plain words that end in a separator; it may end its own turn with it, too.
// Source: managers/tiktoken_tokenizer.py of SGLang.
constexpr std::string_view kGrokTemplate =
    R"({% for message in messages %})"
    R"({% if message['role'] == 'user' %})"
    R"({{ 'Human: ' + message['content'].strip() + '<|separator|>\n\n' }})"
    R"({% elif message['role'] == 'system' %})"
    R"({{ 'System: ' + message['content'].strip() + '<|separator|>\n\n' }})"
    R"({% elif message['role'] == 'assistant' %})"
    R"({{ 'Assistant: ' + message['content'] + '<|separator|>\n\n' }})"
    R"({% endif %}{% endfor %})"
    R"({% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %})";
constexpr std::string_view kGrokStops[] = {"<|eos|>", "<|separator|>"};

constexpr FamilyChat kFamilies[] = {
    {"Grok1ForCausalLM", kGrokTemplate, kGrokStops, "<|eos|>", "<|pad|>"},
};

}  // namespace

const FamilyChat* FindFamilyChat(std::string_view architecture) {
  for (const FamilyChat& family : kFamilies)
    if (family.architecture == architecture) return &family;
  return nullptr;
}

}  // namespace sluice
