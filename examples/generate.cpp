// The C++ API in one page: open a model, ask it something, print the answer as it comes.
//
//   generate MODEL_DIRECTORY "What is 17 + 25?"
#include <cstdio>
#include <future>
#include <string>

#include "sluice/engine.h"

namespace {

int Fail(const sluice::Status& status) {
  std::fprintf(stderr, "%s\n", status.message().c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s MODEL_DIRECTORY PROMPT\n", argv[0]);
    return 2;
  }
  std::promise<sluice::GenerateEvent> last;  // before the engine: its threads may still touch it
  sluice::EngineOptions options;
  options.model_path = argv[1];
  options.show_progress = false;
  auto engine = sluice::Engine::Open(options);
  if (!engine.ok()) return Fail(engine.status());

  auto prompt = (*engine)->Encode(argv[2]);  // or EncodeChat, through the model's template
  if (!prompt.ok()) return Fail(prompt.status());

  sluice::GenerateRequest request;
  request.input_ids = *prompt;
  request.sampling = (*engine)->info().defaults;
  request.sampling.max_new_tokens = 64;
  request.sampling.seed = 7;  // the same answer every time, whatever else is running

  // Events arrive on a thread of the engine, in order; the last one, and only that, has `finish`.
  auto id = (*engine)->Submit(std::move(request), [&last](sluice::GenerateEvent&& event) {
    std::fputs(event.text.c_str(), stdout);
    std::fflush(stdout);
    if (event.finish) last.set_value(std::move(event));
  });
  if (!id.ok()) return Fail(id.status());
  const sluice::GenerateEvent end = last.get_future().get();
  if (end.finish->type == sluice::FinishReason::Type::kAbort) return Fail(end.finish->error);
  std::printf("\n%ld prompt tokens, %ld tokens in %.3f s\n", static_cast<long>(end.prompt_tokens),
              static_cast<long>(end.completion_tokens), end.elapsed_seconds);
  return 0;
}
