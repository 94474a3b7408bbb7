// Tokens per second of 1, 4, 16 and 64 streams through the public engine, and what a step costs.
//   engine_streams [MODEL [THREADS [LOAD_FORMAT [trace]]]]    trace: microseconds a step by
//   operation
#include <cstdio>
#include <cstdlib>
#include <future>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "base/trace.h"
#include "sluice/engine.h"

namespace sluice {
namespace {

constexpr int64_t kPromptTokens = 64;
constexpr int64_t kNewTokens = 256;

double TokensPerSecond(Engine& engine, int streams) {
  std::vector<std::promise<void>> done(streams);
  const double start = MonotonicSeconds();
  for (int i = 0; i < streams; ++i) {
    GenerateRequest request;
    for (int64_t j = 0; j < kPromptTokens; ++j)
      request.input_ids.push_back(
          static_cast<int32_t>((j * 31 + i * 17) % engine.info().vocab_size));
    request.sampling.max_new_tokens = kNewTokens;
    request.sampling.ignore_eos = true;
    request.sampling.temperature = 0;
    const auto id = engine.Submit(std::move(request), [&done, i](GenerateEvent&& event) {
      if (event.finish) done[i].set_value();
    });
    if (!id.ok()) std::exit(1);
  }
  for (std::promise<void>& stream : done) stream.get_future().wait();
  return static_cast<double>(streams * kNewTokens) / (MonotonicSeconds() - start);
}

int Main(int argc, char** argv) {
  log::SetLevel(log::Level::kWarning);
  EngineOptions options;
  options.model_path = argc > 1 ? argv[1] : SLUICE_SOURCE_DIR "/models/sluice-tiny";
  options.threads = argc > 2 ? std::atoi(argv[2]) : 0;
  if (argc > 3) options.load_format = argv[3];
  auto engine = Engine::Open(options);
  if (!engine.ok()) {
    std::fprintf(stderr, "%s\n", engine.status().message().c_str());
    return 1;
  }
  TokensPerSecond(**engine, 4);  // touches the memory
  if (argc > 4) trace::Enable();
  double one = 0;
  for (const int streams : {1, 4, 16, 64}) {
    const EngineStats before = (*engine)->stats();
    const double rate = TokensPerSecond(**engine, streams);
    const EngineStats after = (*engine)->stats();
    if (streams == 1) one = rate;
    std::printf("%3d streams %9.0f tokens/s  %5.2fx  %7.1f us a step\n", streams, rate, rate / one,
                1e6 * (after.step_seconds - before.step_seconds) /
                    static_cast<double>(after.steps - before.steps));
    for (const trace::Total& total : trace::Totals())
      std::printf(
          "    %-16s %9.1f us a step, %5.1f calls\n", total.name,
          1e6 * total.seconds / static_cast<double>(after.steps - before.steps),
          static_cast<double>(total.count) / static_cast<double>(after.steps - before.steps));
    trace::Reset();
  }
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) { return sluice::Main(argc, argv); }
