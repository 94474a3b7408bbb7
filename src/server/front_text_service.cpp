#include "server/front_text_service.h"

#include <boost/json/value.hpp>

#include "text/front.h"

namespace sluice {
namespace {

class FrontTextService final : public TextService {
 public:
  explicit FrontTextService(const TextFront& front) : front_(front) {}

  bool has_chat_template() const override { return front_.has_chat_template(); }
  Result<std::vector<int32_t>> EncodePrompt(std::string_view text,
                                            bool add_special_tokens) const override {
    return front_.EncodePrompt(text, add_special_tokens);
  }
  Result<std::vector<int32_t>> EncodeChat(const ChatPromptSource& chat) const override {
    ChatInput input;
    input.messages = chat.messages;
    input.tools = chat.tools;
    input.kwargs = chat.kwargs;
    input.add_generation_prompt = chat.add_generation_prompt;
    input.continue_final_message = chat.continue_final_message;
    TRY(ChatPrompt prompt, front_.EncodeChat(input));
    return std::move(prompt.ids);
  }
  std::string Decode(std::span<const int32_t> ids, bool skip_special) const override {
    return front_.tokenizer().Decode(ids, skip_special);
  }
  std::string_view TokenBytes(int32_t id) const override {
    return front_.tokenizer().TokenBytes(id);
  }
  bool IsSpecial(int32_t id) const override { return front_.tokenizer().IsSpecial(id); }
  std::string Property(std::string_view name) const override {
    if (name == "bos_token") return front_.bos_token();
    if (name == "eos_token") return front_.eos_token();
    if (name == "pad_token") return front_.pad_token();
    if (name == "chat_template") return front_.chat_template_source();
    return {};
  }

 private:
  const TextFront& front_;
};

}  // namespace

std::unique_ptr<TextService> MakeFrontTextService(const TextFront* front) {
  return front ? std::make_unique<FrontTextService>(*front) : nullptr;
}

}  // namespace sluice
