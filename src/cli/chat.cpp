#include "cli/chat.h"

#include <fmt/format.h>
#include <unistd.h>

#include <boost/json.hpp>

#include <cerrno>
#include <cstdio>

#include "base/status.h"
#include "cli/answer.h"
#include "text/front.h"

namespace sluice {
namespace {

constexpr char kHelp[] =
    "  /system TEXT   a system message (starts over)\n"
    "  /think on|off  thinking, if the model's template knows it\n"
    "  /clear         forget the conversation\n"
    "  /exit          leave (also Ctrl-D)\n"
    "  Ctrl-C         stop the answer\n";

enum class Line { kText, kInterrupted, kEnd };

// One line from standard input, byte by byte so that Ctrl-C can interrupt the wait.
Line ReadLine(std::string* line) {
  line->clear();
  for (;;) {
    if (!InterruptScope::WaitToRead(STDIN_FILENO)) return Line::kInterrupted;
    char c;
    const ssize_t got = read(STDIN_FILENO, &c, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return line->empty() ? Line::kEnd : Line::kText;
    if (c == '\n') return Line::kText;
    line->push_back(c);
  }
}

class Conversation {
 public:
  Conversation(Engine& engine, const RunOptions& options)
      : engine_(engine), options_(options), system_(options.system) {
    if (options.enable_thinking) kwargs_["enable_thinking"] = *options.enable_thinking;
    Clear();
  }

  /// False: leave.
  bool Handle(const std::string& line) {
    if (line == "/exit" || line == "/quit") return false;
    if (line == "/help") {
      fmt::print("{}", kHelp);
    } else if (line == "/clear") {
      Clear();
    } else if (line.starts_with("/system ")) {
      system_ = line.substr(8);
      Clear();
    } else if (line == "/think on" || line == "/think off") {
      kwargs_["enable_thinking"] = line.ends_with("on");
    } else if (line.starts_with("/")) {
      fmt::print("unknown command {}; /help lists them\n", Quoted(line));
    } else if (!line.empty()) {
      Ask(line);
    }
    return true;
  }

 private:
  void Clear() {
    messages_.clear();
    if (!system_.empty()) messages_.push_back({{"role", "system"}, {"content", system_}});
  }

  void Ask(const std::string& line) {
    messages_.push_back({{"role", "user"}, {"content", line}});
    const Status status = Answer();
    if (status.ok()) return;
    if (status.code() == Code::kCancelled) {
      fmt::print("[stopped]\n");
      return;
    }
    fmt::print("[{}]\n", status.message());
    messages_.pop_back();  // as if it had not been asked
  }

  Status Answer() {
    const boost::json::value messages = messages_;
    TRY(ChatPrompt prompt, engine_.text()->EncodeChat({.messages = &messages, .kwargs = &kwargs_}));
    GenerateRequest request;
    request.input_ids = std::move(prompt.ids);
    request.sampling = SamplingFrom(options_, engine_.info());
    double first_token_seconds = -1;
    TRY(const GenerateResult result,
        StreamAnswer(engine_, std::move(request), [&](const GenerateEvent& event) {
          if (first_token_seconds < 0 && !event.ids.empty())
            first_token_seconds = event.elapsed_seconds;
          std::fwrite(event.text.data(), 1, event.text.size(), stdout);
          std::fflush(stdout);
        }));
    std::fputc('\n', stdout);
    const bool aborted = result.finish.type == FinishReason::Type::kAbort;
    if (aborted && result.finish.error.code() != Code::kCancelled) return result.finish.error;
    messages_.push_back({{"role", "assistant"}, {"content", result.text}});
    if (aborted) return result.finish.error;
    if (options_.show_timing)
      fmt::print(stderr, "[{}]\n", DescribeTiming(result, first_token_seconds));
    return {};
  }

  Engine& engine_;
  const RunOptions& options_;
  std::string system_;
  boost::json::array messages_;
  boost::json::object kwargs_;
};

}  // namespace

int RunChat(const RunOptions& options) {
  const auto engine = Engine::Open(options.engine);
  if (!engine.ok()) {
    fmt::print(stderr, "sluice chat: {}\n", engine.status().message());
    return 2;
  }
  const TextFront* text = (*engine)->text();
  if (!text || !text->has_chat_template()) {
    fmt::print(stderr, "sluice chat: this model has no {}; `sluice run` completes plain prompts\n",
               text ? "chat template (--chat-template FILE gives one)" : "tokenizer");
    return 2;
  }
  const bool terminal = isatty(STDIN_FILENO);
  if (terminal) fmt::print("{}: /help lists commands\n", (*engine)->info().model_path);
  Conversation conversation(**engine, options);
  const InterruptScope interrupts;
  for (std::string line;;) {
    if (terminal) fmt::print("> ");
    std::fflush(stdout);
    const Line kind = ReadLine(&line);
    if (kind == Line::kInterrupted) {
      fmt::print("\n(Ctrl-D or /exit leaves)\n");
      continue;
    }
    if (kind == Line::kEnd || !conversation.Handle(line)) break;
  }
  if (terminal) fmt::print("\n");
  return 0;
}

}  // namespace sluice
