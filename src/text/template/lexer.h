// Template source to tokens, with the whitespace rules of jinja2 (trim_blocks and lstrip_blocks
// on). Source: jinja2/lexer.py, version 3.1.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace sluice::jinja {

enum class TokenKind {
  kData,           // text outside of tags
  kVariableBegin,  // {{
  kVariableEnd,
  kBlockBegin,  // {%
  kBlockEnd,
  kName,
  kInteger,   // still with underscores and base prefix
  kFloat,     // still with underscores
  kString,    // with its quotes and escapes
  kOperator,  // text tells which
  kEnd,
};

struct Token {
  TokenKind kind;
  int line;               // from 1
  std::string_view text;  // into the normalised source
};

/// jinja2's view of a source: line breaks are "\n", one at the very end is dropped.
std::string NormalizeSource(std::string_view source);

/// The tokens, the last one kEnd. `source` is normalised and outlives them. Errors: with the line.
Result<std::vector<Token>> Lex(std::string_view source);

}  // namespace sluice::jinja
