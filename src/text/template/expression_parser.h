// The expression half of the parser, and what both halves share: the token stream and errors.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/template/lexer.h"
#include "text/template/syntax.h"

namespace sluice::jinja {

/// The value of a string literal with its quotes. Errors: a bad escape.
Result<std::string> DecodeString(std::string_view literal);

/// Which of the special variables of a macro its body names.
struct MacroUses {
  bool caller = false, varargs = false, kwargs = false;
};

class ExpressionParser {
 protected:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& Peek(size_t ahead = 0) const {
    return tokens_[std::min(next_ + ahead, tokens_.size() - 1)];
  }
  Token Next() {
    Token token = Peek();
    if (next_ + 1 < tokens_.size()) ++next_;
    return token;
  }
  bool AtOperator(std::string_view op) const {
    return Peek().kind == TokenKind::kOperator && Peek().text == op;
  }
  bool AtName(std::string_view name, size_t ahead = 0) const {
    return Peek(ahead).kind == TokenKind::kName && Peek(ahead).text == name;
  }
  bool SkipOperator(std::string_view op);
  bool SkipName(std::string_view name);
  Status ExpectOperator(std::string_view op);
  Result<std::string> ExpectName();
  Status Expect(TokenKind kind, std::string_view what);
  Status Unexpected(std::string_view wanted) const;

  template <class... Args>
  Status Fail(int line, fmt::format_string<Args...> format, Args&&... args) const {
    return Error(Code::kInvalidArgument, "chat template line {}: {}", line,
                 fmt::format(format, std::forward<Args>(args)...));
  }

  /// Nesting of the source: every recursive rule holds one of these.
  class Nested {
   public:
    explicit Nested(ExpressionParser& parser) : parser_(parser) { ++parser_.nesting_; }
    ~Nested() { --parser_.nesting_; }
    Status status() const;

   private:
    ExpressionParser& parser_;
  };

  using Parsed = Result<ExpressionPtr>;
  Parsed ParseExpression(bool with_conditional = true);
  /// `a, b` without brackets is a tuple; `end_name` (such as "in") ends it.
  Parsed ParseTuple(bool with_conditional = true, bool in_parentheses = false,
                    std::string_view end_name = {});
  /// Filters behind `input` (or behind a block, if null); `inline_start`: the first without its
  /// bar.
  Parsed ParseFilters(ExpressionPtr input, bool inline_start);
  Parsed ParseCall(ExpressionPtr callee);
  bool AtTupleEnd(std::string_view end_name) const;

  std::vector<MacroUses> macro_uses_;  // of the macros being parsed, innermost last

 private:
  template <class Node>
  Parsed Make(int line, int inner_depth, Node node);

  Parsed ParseOr();
  Parsed ParseAnd();
  Parsed ParseNot();
  Parsed ParseCompare();
  Parsed ParseSum();
  Parsed ParseConcat();
  Parsed ParseProduct();
  Parsed ParsePower();
  Parsed ParseUnary(bool with_filter);
  Parsed ParsePrimary();
  Parsed ParsePostfix(ExpressionPtr node);
  Parsed ParseFilterExpression(ExpressionPtr node);
  Parsed ParseTest(ExpressionPtr input);
  Parsed ParseSubscript(ExpressionPtr object);
  Parsed ParseStringLiteral();
  Parsed ParseNumber();
  Parsed ParseListLiteral();
  Parsed ParseDictLiteral();
  Result<CallArguments> ParseArguments();
  Result<std::optional<CompareOp>> ParseCompareOp();
  Parsed ParseArithmetic(Parsed (ExpressionParser::*operand)(),
                         std::initializer_list<std::pair<std::string_view, BinaryOp>> ops);

  std::vector<Token> tokens_;
  size_t next_ = 0;
  int nesting_ = 0;
};

}  // namespace sluice::jinja
