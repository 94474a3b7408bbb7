// A subcommand of `sluice`: one file each, listed in main.cpp.
#pragma once

#include <memory>

namespace CLI {
class App;
}

namespace sluice {

class Command {
 public:
  virtual ~Command() = default;
  virtual const char* name() const = 0;
  virtual const char* summary() const = 0;  // one line
  /// Adds flags and arguments to this command's parser; values are kept in the command.
  virtual void AddFlags(CLI::App& parser) = 0;
  /// After parsing. Returns the exit status: 0, 1 for a failure, 2 for bad flags or files.
  virtual int Run() = 0;
};

std::unique_ptr<Command> MakeServeCommand();
std::unique_ptr<Command> MakeRunCommand();
std::unique_ptr<Command> MakeChatCommand();
std::unique_ptr<Command> MakeBenchCommand();
std::unique_ptr<Command> MakeInspectCommand();
std::unique_ptr<Command> MakeEvalCommand();

}  // namespace sluice
