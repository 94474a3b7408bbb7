// `sluice run`, `sluice chat` and `sluice bench` as subcommands: flags in, Run... called.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "cli/bench/flags.h"
#include "cli/bench/model.h"
#include "cli/chat.h"
#include "cli/command.h"
#include "cli/generate_flags.h"
#include "cli/number_checks.h"

namespace sluice {
namespace {

int Refused(const char* name, const Status& status) {
  fmt::print(stderr, "sluice {}: error: {}\n", name, status.message());
  return 2;
}

class RunCommand final : public Command {
 public:
  const char* name() const override { return "run"; }
  const char* summary() const override { return "Answer one prompt on standard output"; }
  void AddFlags(CLI::App& parser) override {
    parser_ = &parser;
    parser.add_option("prompt", flags_.options.prompt, "The prompt; - reads standard input");
    AddGenerateFlags(parser, flags_);
    parser.add_flag("--raw", flags_.options.raw, "Complete the text, without the chat template")
        ->group("Answer");
    parser
        .add_option("--input-ids", flags_.options.input_ids,
                    "Token ids instead of text, as in 1,2,3; the answer is ids too")
        ->group("Answer");
    parser.footer(
        "Examples:\n"
        "  sluice run \"What is sluice?\" --model-path models/sluice-tiny\n"
        "  sluice run --input-ids 1,2,3 --temperature 0 --max-new-tokens 32 --skip-tokenizer-init "
        "--model-path DIR");
  }
  int Run() override {
    const Status status = ApplyGenerateFlags(*parser_, flags_);
    if (!status.ok()) return Refused(name(), status);
    if (flags_.options.prompt.empty() && flags_.options.input_ids.empty())
      return Refused(name(), Status(Code::kMissingParameter,
                                    "a prompt or --input-ids is needed (see sluice run --help)"));
    const int exit_status = RunPrompt(flags_.options);
    FinishEngineFlags(flags_.engine);
    return exit_status;
  }

 private:
  CLI::App* parser_ = nullptr;
  GenerateFlags flags_;
};

class ChatCommand final : public Command {
 public:
  const char* name() const override { return "chat"; }
  const char* summary() const override { return "Talk with a model in the terminal"; }
  void AddFlags(CLI::App& parser) override {
    parser_ = &parser;
    AddGenerateFlags(parser, flags_);
    parser.footer(
        "In the conversation: /help lists commands, Ctrl-C stops an answer, Ctrl-D leaves.\n"
        "Example:\n  sluice chat --model-path models/sluice-tiny");
  }
  int Run() override {
    const Status status = ApplyGenerateFlags(*parser_, flags_);
    if (!status.ok()) return Refused(name(), status);
    const int exit_status = RunChat(flags_.options);
    FinishEngineFlags(flags_.engine);
    return exit_status;
  }

 private:
  CLI::App* parser_ = nullptr;
  GenerateFlags flags_;
};

class BenchCommand final : public Command {
 public:
  const char* name() const override { return "bench"; }
  const char* summary() const override { return "Measure prefill and decode on this machine"; }
  void AddFlags(CLI::App& parser) override {
    parser_ = &parser;
    AddEngineFlags(parser, engine_);
    const char* const group = "Bench";
    parser.add_option("--prompt-tokens", options_.prompt_tokens, "Tokens a prompt")
        ->check(Positive)
        ->capture_default_str()
        ->group(group);
    parser.add_option("--decode-tokens", options_.decode_tokens, "Tokens an answer")
        ->check(Positive)
        ->capture_default_str()
        ->group(group);
    parser.add_option("--concurrency", options_.concurrency, "Requests at a time, one or several")
        ->check(Positive)
        ->delimiter(',')
        ->capture_default_str()
        ->group(group);
    parser.add_option("--runs", options_.runs, "Runs whose median counts")
        ->check(Positive)
        ->capture_default_str()
        ->group(group);
    AddBenchParts(parser, parts_);
    parser.footer(
        "Example: a dummy stack at Ling-2.6-flash's widths\n"
        "  sluice bench --model-path Ling-2.6-flash --load-format dummy --skip-tokenizer-init \\\n"
        "    --json-model-override-args '{\"num_hidden_layers\": 4, \"layer_group_size\": 2, "
        "\"num_experts\": 64}'");
  }
  int Run() override {
    if (const int exit_status = RunBenchPart(*parser_, parts_); exit_status >= 0)
      return exit_status;
    if (parser_->count("--log-level") == 0) engine_.log_level = "warning";
    const Status status = ApplyEngineFlags(engine_);
    if (!status.ok()) return Refused(name(), status);
    options_.engine = engine_.options;
    const int exit_status = RunBench(options_);
    FinishEngineFlags(engine_);
    return exit_status;
  }

 private:
  CLI::App* parser_ = nullptr;
  EngineFlags engine_;
  BenchOptions options_;
  BenchParts parts_;
};

}  // namespace

std::unique_ptr<Command> MakeRunCommand() { return std::make_unique<RunCommand>(); }
std::unique_ptr<Command> MakeChatCommand() { return std::make_unique<ChatCommand>(); }
std::unique_ptr<Command> MakeBenchCommand() { return std::make_unique<BenchCommand>(); }

}  // namespace sluice
