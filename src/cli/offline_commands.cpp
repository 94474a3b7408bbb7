// `sluice inspect` and `sluice eval` as subcommands: they open no engine.
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "cli/command.h"
#include "cli/eval.h"
#include "cli/inspect.h"
#include "cli/memory_table.h"
#include "cli/number_checks.h"

namespace sluice {
namespace {

class InspectCommand final : public Command {
 public:
  const char* name() const override { return "inspect"; }
  const char* summary() const override {
    return "Show what a model is, its tensors, and what memory it needs";
  }
  void AddFlags(CLI::App& parser) override {
    parser.add_option("model", models_, "A checkpoint directory or a geometry's name");
    parser.add_option("--context", options_.context, "Tokens a request [the model's maximum]")
        ->check(Positive);
    parser.add_option("--concurrency", options_.concurrency, "Requests at a time")
        ->check(Positive)
        ->capture_default_str();
    parser.add_option("--dtype", options_.dtype, "auto, bfloat16, float32")->capture_default_str();
    parser.add_option("--json-model-override-args", options_.config_overrides,
                      "JSON object laid over config.json");
    parser.add_option("--quantization", options_.quantization.format, "As `sluice serve` loads it")
        ->check(CLI::IsMember({"none", "fp8", "int8", "int4"}))
        ->capture_default_str();
    parser
        .add_option("--quantization-group-size", options_.quantization.group_size,
                    "Inputs that share an int4 scale")
        ->check(CLI::IsMember({32, 64, 128}))
        ->capture_default_str();
    parser.add_flag("--quantization-zero-points", options_.quantization.zero_points,
                    "A zero point for each int4 group");
    parser.add_flag("--tensors", options_.all_tensors, "Every tensor, not one line a pattern");
    parser.add_flag("--table", table_,
                    "What models need in memory, side by side [every shipped geometry]");
    parser.footer(
        "Examples:\n"
        "  sluice inspect Ling-2.6-1T --context 32768 --concurrency 16\n"
        "  sluice inspect --table");
  }
  int Run() override {
    if (table_) return PrintMemoryTable({models_, options_.context, options_.concurrency});
    if (models_.size() != 1) {
      fmt::print(stderr, "sluice inspect: {} models, expected is one (or --table)\n",
                 models_.size());
      return 2;
    }
    options_.model_path = models_[0];
    return RunInspect(options_);
  }

 private:
  std::vector<std::string> models_;
  bool table_ = false;
  InspectOptions options_;
};

class EvalCommand final : public Command {
 public:
  const char* name() const override { return "eval"; }
  const char* summary() const override { return "Run held-out tests through a running server"; }
  void AddFlags(CLI::App& parser) override {
    parser.add_option("--url", options_.url, "The server")->capture_default_str();
    parser.add_option("--data", options_.directory, "Folder of *.jsonl sets")
        ->capture_default_str();
    parser.add_option("--set", options_.sets, "Only these sets, by name")->delimiter(',');
    parser.add_option("--limit", options_.limit, "Items a set [all]")->check(Positive);
    parser.add_option("--concurrency", options_.concurrency, "Requests at a time")
        ->check(CLI::Range(1, 256))
        ->capture_default_str();
    parser.add_option("--show-failures", options_.show_failures, "Failures printed a set")
        ->check(NotNegative)
        ->capture_default_str();
    parser.add_option("--min-percent", options_.min_percent, "Exit with 1 if a set is below")
        ->check(CLI::Range(0.0, 100.0));
    parser.footer(
        "Example:\n"
        "  sluice serve --model-path models/sluice-tiny &\n"
        "  sluice eval --url http://127.0.0.1:30000 --data models/sluice-tiny/eval");
  }
  int Run() override { return RunEval(options_); }

 private:
  EvalOptions options_;
};

}  // namespace

std::unique_ptr<Command> MakeInspectCommand() { return std::make_unique<InspectCommand>(); }
std::unique_ptr<Command> MakeEvalCommand() { return std::make_unique<EvalCommand>(); }

}  // namespace sluice
