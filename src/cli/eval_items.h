// Held-out test items: reading them, expanding their contexts, judging answers. The format is
// described in models/sluice-tiny/eval/README.md.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace sluice {

struct EvalItem {
  std::string id;
  std::string request;      // the body for /v1/chat/completions
  std::string check_kind;   // "exact", "contains", "final_number", "json_tool_call", "think_..."
  std::string check_value;  // JSON text
};

struct EvalSet {
  std::string name;  // the file's name without .jsonl
  std::vector<EvalItem> items;
};

/// Every *.jsonl of a directory, sorted by name. Errors: file and line.
Result<std::vector<EvalSet>> ReadEvalSets(const std::string& directory);

/// The content of an answer, without its reasoning and white space around.
struct EvalAnswer {
  std::string content;
  std::string reasoning;
};
/// From the body of a chat completion. Errors: kInternal if it is none.
Result<EvalAnswer> ReadEvalAnswer(const std::string& body);

/// Whether the answer passes the item's check.
bool Passes(const EvalItem& item, const EvalAnswer& answer);

}  // namespace sluice
