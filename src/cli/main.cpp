// The program: finds the subcommand, parses its flags, runs it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <vector>

#include "base/status.h"
#include "cli/command.h"
#include "cli/spelling.h"
#include "server/version.h"

namespace {

using sluice::Command;

constexpr int kExitUsage = 2;

// A new subcommand: its file, its Make function in command.h, its line here.
constexpr std::unique_ptr<Command> (*kCommands[])() = {
    sluice::MakeServeCommand, sluice::MakeRunCommand,     sluice::MakeChatCommand,
    sluice::MakeBenchCommand, sluice::MakeInspectCommand, sluice::MakeEvalCommand,
};

constexpr const char* kExamples =
    "Examples:\n"
    "  sluice serve --model-path models/sluice-tiny\n"
    "  sluice chat --model-path models/sluice-tiny\n"
    "  sluice inspect Ling-2.6-1T --context 32768\n"
    "  sluice serve --model-path ~/models/Ling-2.6-flash --port 8000 --context-length 32768\n"
    "  sluice COMMAND --help";

int ReportUnknownCommand(const CLI::App& app, const std::string& word) {
  std::vector<std::string> known;
  for (const CLI::App* command : app.get_subcommands({})) known.push_back(command->get_name());
  const std::string nearest = sluice::Nearest(word, known);
  fmt::print(stderr, "sluice: error: unknown command {}{}\nTry 'sluice --help'.\n",
             sluice::Quoted(word),
             nearest.empty() ? "" : fmt::format("; did you mean {}?", nearest));
  return kExitUsage;
}

/// The parser whose words these are: `sluice bench moe`, not `sluice bench`, if it was asked for.
const CLI::App& Innermost(const CLI::App& parser) {
  const auto chosen = parser.get_subcommands([](const CLI::App* part) { return part->parsed(); });
  return chosen.empty() ? parser : Innermost(*chosen[0]);
}

std::string Words(const CLI::App& parser) {
  const CLI::App* const above = parser.get_parent();
  return (above ? Words(*above) + " " : "") + parser.get_name();
}

/// What the parser did not know: the first one, with the nearest known name.
int ReportUnknown(const CLI::App& parser, const std::string& argument) {
  if (argument.size() < 2 || argument[0] != '-') {
    std::vector<std::string> parts;
    for (const CLI::App* part : parser.get_subcommands({})) parts.push_back(part->get_name());
    fmt::print(stderr, "sluice: error: unexpected argument '{}'{}{}\n", argument,
               parts.empty() ? "" : ", allowed are ", fmt::join(parts, ", "));
  } else {
    std::vector<std::string> known;
    for (const CLI::Option* option : parser.get_options())
      for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
    const std::string flag = argument.substr(0, argument.find('='));
    const std::string nearest = sluice::Nearest(flag, known);
    fmt::print(stderr, "sluice: error: unknown flag {}{}\n", flag,
               nearest.empty() ? "" : fmt::format("; did you mean {}?", nearest));
  }
  fmt::print(stderr, "Try '{} --help'.\n", Words(parser));
  return kExitUsage;
}

/// A misspelt word often leaves something required missing: then the word is the better news.
int ReportParseError(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& parser = Innermost(app);
  if (const auto unknown = parser.remaining(); &parser != &app && !unknown.empty())
    return ReportUnknown(parser, unknown[0]);
  if (const auto unknown = app.remaining(); !unknown.empty())
    return ReportUnknownCommand(app, unknown[0]);
  fmt::print(stderr, "sluice: error: {}\nTry '{} --help'.\n", error.what(), Words(parser));
  return kExitUsage;
}

/// A flag that comes twice: the last one counts, as in SGLang's launcher. Lists take them all.
void LetTheLastCount(CLI::App& parser) {
  for (CLI::Option* option : parser.get_options())
    if (option->get_expected_max() == 1) option->take_last();
  for (CLI::App* part : parser.get_subcommands({})) LetTheLastCount(*part);
}

int Main(int argc, char** argv) {
  CLI::App app("A server for hybrid mixture-of-experts language models", "sluice");
  app.set_version_flag("--version", std::string("sluice ") + sluice::kVersion);
  app.require_subcommand(1);
  app.footer(kExamples);
  std::vector<std::unique_ptr<Command>> commands;
  std::vector<CLI::App*> parsers;
  for (const auto make : kCommands) {
    commands.push_back(make());
    parsers.push_back(app.add_subcommand(commands.back()->name(), commands.back()->summary()));
    parsers.back()->allow_extras();
    commands.back()->AddFlags(*parsers.back());
    LetTheLastCount(*parsers.back());
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    return ReportParseError(app, error);
  }
  for (size_t i = 0; i < commands.size(); ++i) {
    if (!parsers[i]->parsed()) continue;
    for (const CLI::App* parser : {&std::as_const(*parsers[i]), &Innermost(*parsers[i])})
      if (const auto unknown = parser->remaining(); !unknown.empty())
        return ReportUnknown(*parser, unknown[0]);
    return commands[i]->Run();
  }
  return kExitUsage;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Main(argc, argv);
  } catch (const std::exception& error) {  // out of memory, at most: we throw nothing ourselves
    fmt::print(stderr, "sluice: error: {}\n", error.what());
    return 1;
  }
}
