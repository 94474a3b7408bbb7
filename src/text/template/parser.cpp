#include "text/template/parser.h"

#include <algorithm>

#include "text/template/expression_parser.h"

namespace sluice::jinja {
namespace {

class Parser : ExpressionParser {
 public:
  explicit Parser(std::vector<Token> tokens) : ExpressionParser(std::move(tokens)) {}

  Result<Body> Run() {
    TRY(Body body, ParseBody({}));
    return body;
  }

 private:
  using EndNames = std::initializer_list<std::string_view>;

  // Statements up to a tag that begins with one of `ends` (left to be read), or to the end of the
  // source where `ends` is empty.
  Result<Body> ParseBody(EndNames ends) {
    Nested nested(*this);
    RETURN_IF_ERROR(nested.status());
    Body body;
    for (;;) {
      const Token token = Next();
      if (token.kind == TokenKind::kEnd) {
        if (ends.size() == 0) return body;
        return Fail(token.line, "the template ends where '{}' is expected", *(ends.end() - 1));
      }
      if (token.kind == TokenKind::kData) {
        const Value text = Value::Trusted(token.text);
        body.push_back({token.line, TextStatement{std::get<TextPtr>(text.data)}});
      } else if (token.kind == TokenKind::kVariableBegin) {
        OutputStatement output;
        TRY(ExpressionPtr value, ParseTuple());
        output.values.push_back(std::move(value));
        body.push_back({token.line, std::move(output)});
        RETURN_IF_ERROR(Expect(TokenKind::kVariableEnd, "'}}'"));
      } else {
        for (const std::string_view end : ends)
          if (AtName(end)) return body;
        RETURN_IF_ERROR(ParseStatement(body));
        RETURN_IF_ERROR(Expect(TokenKind::kBlockEnd, "'%}'"));
      }
    }
  }

  // The inside of a compound statement: from the end of its tag to a tag named in `ends`.
  Result<Body> ParseInside(EndNames ends) {
    SkipOperator(":");
    RETURN_IF_ERROR(Expect(TokenKind::kBlockEnd, "'%}'"));
    return ParseBody(ends);
  }

  // The same, and the end tag's name is read.
  Result<Body> ParseInsideUpTo(std::string_view end) {
    TRY(Body body, ParseInside({end}));
    Next();
    return body;
  }

  Status ParseStatement(Body& body) {
    using Rule = Status (Parser::*)(int line, Body& body);
    static constexpr std::pair<std::string_view, Rule> kRules[] = {
        {"for", &Parser::ParseFor},
        {"if", &Parser::ParseIf},
        {"set", &Parser::ParseSet},
        {"macro", &Parser::ParseMacro},
        {"call", &Parser::ParseCallBlock},
        {"filter", &Parser::ParseFilterBlock},
        {"with", &Parser::ParseWith},
        {"print", &Parser::ParsePrint},
        {"break", &Parser::ParseBreak},
        {"continue", &Parser::ParseContinue},
        {"generation", &Parser::ParseGeneration},
    };
    const Token tag = Peek();
    if (tag.kind != TokenKind::kName) return Unexpected("a statement");
    for (const auto& [name, rule] : kRules)
      if (tag.text == name) {
        Next();
        return (this->*rule)(tag.line, body);
      }
    return Fail(tag.line, "the statement {} is not supported", Quoted(tag.text));
  }

  Status CheckAssignable(int line, std::string_view name) {
    static constexpr std::string_view kConstants[] = {"true", "false", "none",
                                                      "True", "False", "None"};
    for (const std::string_view constant : kConstants)
      if (name == constant) return Fail(line, "can not assign to {}", name);
    return {};
  }

  Result<Target> ParseOneTarget(bool with_namespace) {
    const int line = Peek().line;
    Target target;
    if (SkipOperator("(")) {
      Nested nested(*this);
      RETURN_IF_ERROR(nested.status());
      TRY(target, ParseTarget(with_namespace, {}));
      RETURN_IF_ERROR(ExpectOperator(")"));
      return target;
    }
    TRY(target.name, ExpectName());
    RETURN_IF_ERROR(CheckAssignable(line, target.name));
    if (with_namespace && SkipOperator(".")) {
      TRY(target.attribute, ExpectName());
    }
    return target;
  }

  Result<Target> ParseTarget(bool with_namespace, std::string_view end_name) {
    Target tuple;
    for (;;) {
      if (!tuple.items.empty()) RETURN_IF_ERROR(ExpectOperator(","));
      if (AtTupleEnd(end_name)) break;
      TRY(Target item, ParseOneTarget(with_namespace));
      tuple.items.push_back(std::move(item));
      if (!AtOperator(",")) break;
      tuple.is_tuple = true;
    }
    if (tuple.items.empty()) return Unexpected("a name");
    if (!tuple.is_tuple) return std::move(tuple.items[0]);
    return tuple;
  }

  static bool AssignsTo(std::string_view name, const Target& target) {
    return target.name == name ||
           std::any_of(target.items.begin(), target.items.end(),
                       [name](const Target& item) { return AssignsTo(name, item); });
  }

  Status ParseFor(int line, Body& body) {
    ForStatement node;
    TRY(node.target, ParseTarget(false, "in"));
    if (AssignsTo("loop", node.target))
      return Fail(line, "can not assign to the variable of the loop");
    if (!SkipName("in")) return Unexpected("'in'");
    TRY(node.iterable, ParseTuple(false, false, "recursive"));
    if (SkipName("if")) {
      TRY(node.condition, ParseExpression());
    }
    if (AtName("recursive")) return Fail(line, "recursive loops are not supported");
    ++loops_;
    TRY(node.body, ParseInside({"else", "endfor"}));
    --loops_;
    if (Next().text == "else") {
      TRY(node.otherwise, ParseInsideUpTo("endfor"));
    }
    body.push_back({line, std::move(node)});
    return {};
  }

  Status ParseIf(int line, Body& body) {
    IfStatement node;
    for (std::string_view tag = "if"; tag == "if" || tag == "elif"; tag = Next().text) {
      TRY(ExpressionPtr condition, ParseTuple(false));
      TRY(Body inside, ParseInside({"elif", "else", "endif"}));
      node.branches.emplace_back(std::move(condition), std::move(inside));
      if (AtName("else")) {
        Next();
        TRY(node.otherwise, ParseInside({"endif"}));
      }
    }
    body.push_back({line, std::move(node)});
    return {};
  }

  Status ParseSet(int line, Body& body) {
    TRY(Target target, ParseTarget(true, {}));
    if (SkipOperator("=")) {
      SetStatement node{std::move(target), nullptr};
      TRY(node.value, ParseTuple());
      body.push_back({line, std::move(node)});
      return {};
    }
    SetBlockStatement node{std::move(target), nullptr, {}};
    TRY(node.filter, ParseFilters(nullptr, false));
    TRY(node.body, ParseInsideUpTo("endset"));
    body.push_back({line, std::move(node)});
    return {};
  }

  Status ParseParameters(MacroBody& macro) {
    RETURN_IF_ERROR(ExpectOperator("("));
    while (!AtOperator(")")) {
      if (!macro.parameters.empty()) RETURN_IF_ERROR(ExpectOperator(","));
      const int line = Peek().line;
      Parameter parameter;
      TRY(parameter.name, ExpectName());
      RETURN_IF_ERROR(CheckAssignable(line, parameter.name));
      for (const Parameter& other : macro.parameters)
        if (other.name == parameter.name)
          return Fail(line, "parameter {} is given twice", Quoted(parameter.name));
      if (SkipOperator("=")) {
        TRY(parameter.otherwise, ParseExpression());
      } else if (!macro.parameters.empty() && macro.parameters.back().otherwise) {
        return Fail(line, "parameter {} without default follows one with default",
                    Quoted(parameter.name));
      }
      macro.parameters.push_back(std::move(parameter));
    }
    Next();
    return {};
  }

  Status ParseMacroBody(MacroBody& macro, std::string_view end) {
    macro_uses_.emplace_back();
    const int loops = std::exchange(loops_, 0);
    TRY(macro.body, ParseInsideUpTo(end));
    loops_ = loops;
    macro.uses_caller = macro_uses_.back().caller;
    macro.uses_varargs = macro_uses_.back().varargs;
    macro.uses_kwargs = macro_uses_.back().kwargs;
    macro_uses_.pop_back();
    return {};
  }

  Status ParseMacro(int line, Body& body) {
    MacroStatement node;
    TRY(node.macro.name, ExpectName());
    RETURN_IF_ERROR(CheckAssignable(line, node.macro.name));
    RETURN_IF_ERROR(ParseParameters(node.macro));
    RETURN_IF_ERROR(ParseMacroBody(node.macro, "endmacro"));
    body.push_back({line, std::move(node)});
    return {};
  }

  Status ParseCallBlock(int line, Body& body) {
    CallStatement node;
    node.caller.name = "caller";
    if (AtOperator("(")) RETURN_IF_ERROR(ParseParameters(node.caller));
    TRY(node.call, ParseExpression());
    if (!std::holds_alternative<CallExpr>(node.call->node))
      return Fail(line, "'call' needs a call of a macro");
    RETURN_IF_ERROR(ParseMacroBody(node.caller, "endcall"));
    body.push_back({line, std::move(node)});
    return {};
  }

  Status ParseFilterBlock(int line, Body& body) {
    FilterStatement node;
    TRY(node.filter, ParseFilters(nullptr, true));
    TRY(node.body, ParseInsideUpTo("endfilter"));
    body.push_back({line, std::move(node)});
    return {};
  }

  Status ParseWith(int line, Body& body) {
    WithStatement node;
    while (Peek().kind != TokenKind::kBlockEnd) {
      if (!node.variables.empty()) RETURN_IF_ERROR(ExpectOperator(","));
      TRY(Target target, ParseTarget(false, {}));
      RETURN_IF_ERROR(ExpectOperator("="));
      TRY(ExpressionPtr value, ParseExpression());
      node.variables.emplace_back(std::move(target), std::move(value));
    }
    TRY(node.body, ParseInsideUpTo("endwith"));
    body.push_back({line, std::move(node)});
    return {};
  }

  Status ParsePrint(int line, Body& body) {
    OutputStatement node;
    while (Peek().kind != TokenKind::kBlockEnd) {
      if (!node.values.empty()) RETURN_IF_ERROR(ExpectOperator(","));
      TRY(ExpressionPtr value, ParseExpression());
      node.values.push_back(std::move(value));
    }
    body.push_back({line, std::move(node)});
    return {};
  }

  Status ParseBreak(int line, Body& body) {
    if (loops_ == 0) return Fail(line, "'break' outside of a loop");
    body.push_back({line, BreakStatement{}});
    return {};
  }

  Status ParseContinue(int line, Body& body) {
    if (loops_ == 0) return Fail(line, "'continue' outside of a loop");
    body.push_back({line, ContinueStatement{}});
    return {};
  }

  // Marks the assistant's text for training; here it only scopes, as it does in transformers.
  Status ParseGeneration(int line, Body& body) {
    WithStatement node;
    TRY(node.body, ParseInsideUpTo("endgeneration"));
    body.push_back({line, std::move(node)});
    return {};
  }

  int loops_ = 0;
};

}  // namespace

Result<Body> ParseTemplate(std::string_view source) {
  TRY(std::vector<Token> tokens, Lex(source));
  return Parser(std::move(tokens)).Run();
}

}  // namespace sluice::jinja
