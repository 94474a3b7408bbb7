// Template source to syntax tree. Source: jinja2/parser.py, version 3.1. Nesting is bounded.
#pragma once

#include <string_view>

#include "text/template/syntax.h"

namespace sluice::jinja {

/// Errors: kInvalidArgument with the line. `source` is normalised (lexer.h) and need not outlive
/// the tree.
Result<Body> ParseTemplate(std::string_view source);

}  // namespace sluice::jinja
