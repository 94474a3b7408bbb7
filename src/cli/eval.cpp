#include "cli/eval.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "base/clock.h"
#include "cli/eval_items.h"
#include "cli/http_client.h"

namespace sluice {
namespace {

struct SetResult {
  int passed = 0, errors = 0;
  double seconds = 0;
  std::vector<std::string> failures;  // "id: expected ..., got ..."
};

// The items of one set, `concurrency` at a time.
SetResult RunSet(const EvalSet& set, size_t count, const HttpClient& client,
                 const EvalOptions& options) {
  SetResult result;
  std::mutex mutex;
  std::atomic<size_t> next{0};
  const auto worker = [&] {
    for (size_t i; (i = next.fetch_add(1)) < count;) {
      const EvalItem& item = set.items[i];
      const auto answer = client.Post("/v1/chat/completions", item.request);
      Result<EvalAnswer> read = Error(Code::kInternal, "no answer");
      if (!answer.ok())
        read = answer.status();
      else
        read = ReadEvalAnswer(answer->body);
      const bool passed = read.ok() && Passes(item, *read);
      const std::lock_guard lock(mutex);
      result.passed += passed;
      result.errors += !read.ok();
      if (!passed)
        result.failures.push_back(
            fmt::format("{}: expected {}, got {}", item.id, item.check_value,
                        read.ok() ? Quoted(read->content, 200) : read.status().message()));
    }
  };
  const double start = MonotonicSeconds();
  std::vector<std::thread> threads;
  for (int i = 0; i < std::max(options.concurrency, 1); ++i) threads.emplace_back(worker);
  for (std::thread& thread : threads) thread.join();
  result.seconds = MonotonicSeconds() - start;
  std::sort(result.failures.begin(), result.failures.end());
  return result;
}

}  // namespace

int RunEval(const EvalOptions& options) {
  const auto sets = ReadEvalSets(options.directory);
  const auto client = HttpClient::To(options.url);
  Status status = sets.ok() ? client.status() : sets.status();
  if (status.ok()) status = client->Get("/v1/models").status();
  if (!status.ok()) {
    fmt::print(stderr, "sluice eval: {}\n", status.message());
    return 2;
  }
  bool low = false, ran = false;
  fmt::print("{:<16} {:>6} {:>7} {:>7} {:>7} {:>9}\n", "set", "items", "passed", "%", "errors",
             "seconds");
  for (const EvalSet& set : *sets) {
    if (!options.sets.empty() &&
        std::find(options.sets.begin(), options.sets.end(), set.name) == options.sets.end())
      continue;
    const size_t count =
        options.limit > 0 ? std::min<size_t>(set.items.size(), static_cast<size_t>(options.limit))
                          : set.items.size();
    if (count == 0) continue;
    ran = true;
    const SetResult result = RunSet(set, count, *client, options);
    const double percent = 100.0 * result.passed / static_cast<double>(count);
    low = low || percent < options.min_percent;
    fmt::print("{:<16} {:>6} {:>7} {:>7.1f} {:>7} {:>9.1f}\n", set.name, count, result.passed,
               percent, result.errors, result.seconds);
    std::fflush(stdout);
    const auto shown = std::min<size_t>(result.failures.size(),
                                        static_cast<size_t>(std::max(options.show_failures, 0)));
    for (size_t i = 0; i < shown; ++i) fmt::print("    {}\n", result.failures[i]);
  }
  if (!ran) {
    fmt::print(stderr, "sluice eval: no set of that name in {}\n", options.directory);
    return 2;
  }
  return low ? 1 : 0;
}

}  // namespace sluice
