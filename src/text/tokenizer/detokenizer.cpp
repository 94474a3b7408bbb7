#include "text/tokenizer/detokenizer.h"

#include "text/tokenizer/utf8.h"

namespace sluice {

std::string Detokenizer::Push(int32_t id) {
  if (skip_special_ && tokenizer_->IsSpecial(id)) return {};
  held_.append(tokenizer_->TokenBytes(id));
  std::string text;
  held_.erase(0, AppendRepaired(held_, /*keep_truncated=*/true, &text));
  return text;
}

std::string Detokenizer::Flush() {
  std::string text;
  AppendRepaired(held_, /*keep_truncated=*/false, &text);
  held_.clear();
  return text;
}

}  // namespace sluice
