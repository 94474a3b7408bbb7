// Arbitrary bytes as the body of each generation route. What is accepted must keep its promises:
// one set of sampling parameters and log-probability wishes a prompt, all ranges checked.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "server/api/api_error.h"
#include "server/api/read_request.h"
#include "server/json/json_reader.h"
#include "server/json/json_writer.h"
#include "server/json/utf8.h"

namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

sluice::ApiConfig Config() {
  sluice::ApiConfig config;
  config.model_name = "m";
  config.vocab_size = 1000;
  config.context_length = 4096;
  return config;
}

void Check(const sluice::Result<sluice::CallRequest>& call, const sluice::ApiConfig& config) {
  if (!call.ok()) {  // the error is JSON that we can read ourselves
    Require(sluice::ParseJson(sluice::ErrorBody(sluice::ToApiError(call.status()))).ok());
    return;
  }
  const size_t prompts = call->api == sluice::Api::kChat ? 1 : call->prompts.size();
  Require(prompts > 0 && call->n >= 1);
  Require(call->sampling.size() == prompts && call->logprobs.size() == prompts);
  for (const auto& sampling : call->sampling)
    Require(sluice::ValidateSampling(sampling, config.vocab_size).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const sluice::ApiConfig config = Config();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto document = sluice::ParseJson(text);
  if (!document.ok()) return 0;
  const std::string written = sluice::JsonWriter().Value(*document).Take();
  Require(!sluice::FindInvalidUtf8(written) && sluice::ParseJson(written).ok());
  Check(sluice::ReadGenerateRequest(*document, config), config);
  Check(sluice::ReadCompletionRequest(*document, config), config);
  Check(sluice::ReadChatRequest(*document, config), config);
  return 0;
}
