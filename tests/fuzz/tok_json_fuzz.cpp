// tokenizer.tok.json bytes, then encoding and streaming of a text with whatever was loaded. The
// text is what follows the first NUL byte of the input.
#include "try_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto tokenizer = sluice::Tokenizer::FromTokJson(input.substr(0, input.find('\0')));
  if (tokenizer.ok()) sluice::TryTokenizer(**tokenizer, input);
  return 0;
}
