// Flags of SGLang that mean nothing here, or something that is not built: launch scripts written
// for it start unchanged where that is harmless, and are told the flag's name where it is not.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "base/status.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace sluice {

class ForeignFlags {
 public:
  void AddTo(CLI::App& parser);
  /// After parsing: logs one line with what is ignored. Errors: kUnsupported, naming the first flag
  /// whose value asks for something that is not built.
  Status Check() const;

 private:
  struct Seen {
    const struct ForeignFlag* flag;
    CLI::Option* option;
  };
  std::vector<Seen> seen_;
  std::deque<std::string> values_;  // addresses stay
  std::deque<bool> switches_;
};

}  // namespace sluice
