#include "text/template/expression_parser.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "text/template/python_text.h"
#include "text/template/unicode.h"

namespace sluice::jinja {

static int DepthOf(const ExpressionPtr& node) { return node ? node->depth : 0; }

template <class Range>
static int MaxDepth(const Range& nodes) {
  int depth = 0;
  for (const ExpressionPtr& node : nodes) depth = std::max(depth, DepthOf(node));
  return depth;
}

static int MaxDepth(const CallArguments& arguments) {
  int depth = std::max(DepthOf(arguments.star), DepthOf(arguments.star_star));
  depth = std::max(depth, MaxDepth(arguments.positional));
  for (const auto& [name, value] : arguments.named) depth = std::max(depth, DepthOf(value));
  return depth;
}

template <class Node>
Result<ExpressionPtr> ExpressionParser::Make(int line, int inner_depth, Node node) {
  // Twice the nesting of brackets: a chain such as a.b[0].c()|d is deep without any.
  if (inner_depth >= 2 * kSyntaxDepthMax)
    return Fail(line, "an expression of more than {} operations within each other",
                2 * kSyntaxDepthMax);
  return ExpressionPtr(new Expression{line, inner_depth + 1, std::move(node)});
}

Status ExpressionParser::Nested::status() const {
  if (parser_.nesting_ <= kSyntaxDepthMax) return {};
  return parser_.Fail(parser_.Peek().line, "nested deeper than {}", kSyntaxDepthMax);
}

bool ExpressionParser::SkipOperator(std::string_view op) {
  if (!AtOperator(op)) return false;
  Next();
  return true;
}

bool ExpressionParser::SkipName(std::string_view name) {
  if (!AtName(name)) return false;
  Next();
  return true;
}

Status ExpressionParser::Unexpected(std::string_view wanted) const {
  const Token& token = Peek();
  if (token.kind == TokenKind::kEnd)
    return Fail(token.line, "the template ends where {} is expected", wanted);
  return Fail(token.line, "{} where {} is expected", Quoted(token.text), wanted);
}

Status ExpressionParser::ExpectOperator(std::string_view op) {
  if (SkipOperator(op)) return {};
  return Unexpected(fmt::format("'{}'", op));
}

Result<std::string> ExpressionParser::ExpectName() {
  if (Peek().kind != TokenKind::kName) return Unexpected("a name");
  return std::string(Next().text);
}

Status ExpressionParser::Expect(TokenKind kind, std::string_view what) {
  if (Peek().kind != kind) return Unexpected(what);
  Next();
  return {};
}

Result<ExpressionPtr> ExpressionParser::ParseExpression(bool with_conditional) {
  Nested nested(*this);
  RETURN_IF_ERROR(nested.status());
  const int line = Peek().line;
  TRY(ExpressionPtr value, ParseOr());
  while (with_conditional && SkipName("if")) {
    ConditionalExpr node;
    node.then = std::move(value);
    TRY(node.condition, ParseOr());
    if (SkipName("else")) {
      TRY(node.otherwise, ParseExpression());
    }
    const int depth =
        std::max({DepthOf(node.then), DepthOf(node.condition), DepthOf(node.otherwise)});
    TRY(value, Make(line, depth, std::move(node)));
  }
  return value;
}

Result<ExpressionPtr> ExpressionParser::ParseOr() {
  const int line = Peek().line;
  TRY(ExpressionPtr first, ParseAnd());
  if (!AtName("or")) return first;
  LogicExpr node{false, {}};
  node.operands.push_back(std::move(first));
  while (SkipName("or")) {
    TRY(ExpressionPtr next, ParseAnd());
    node.operands.push_back(std::move(next));
  }
  const int depth = MaxDepth(node.operands);
  return Make(line, depth, std::move(node));
}

Result<ExpressionPtr> ExpressionParser::ParseAnd() {
  const int line = Peek().line;
  TRY(ExpressionPtr first, ParseNot());
  if (!AtName("and")) return first;
  LogicExpr node{true, {}};
  node.operands.push_back(std::move(first));
  while (SkipName("and")) {
    TRY(ExpressionPtr next, ParseNot());
    node.operands.push_back(std::move(next));
  }
  const int depth = MaxDepth(node.operands);
  return Make(line, depth, std::move(node));
}

Result<ExpressionPtr> ExpressionParser::ParseNot() {
  if (!AtName("not")) return ParseCompare();
  Nested nested(*this);
  RETURN_IF_ERROR(nested.status());
  const int line = Next().line;
  TRY(ExpressionPtr operand, ParseNot());
  const int depth = DepthOf(operand);
  return Make(line, depth, UnaryExpr{UnaryOp::kNot, std::move(operand)});
}

Result<std::optional<CompareOp>> ExpressionParser::ParseCompareOp() {
  static constexpr std::pair<std::string_view, CompareOp> kOps[] = {
      {"==", CompareOp::kEqual},  {"!=", CompareOp::kNotEqual},
      {"<", CompareOp::kLess},    {"<=", CompareOp::kLessEqual},
      {">", CompareOp::kGreater}, {">=", CompareOp::kGreaterEqual}};
  for (const auto& [text, op] : kOps)
    if (SkipOperator(text)) return std::optional(op);
  if (SkipName("in")) return std::optional(CompareOp::kIn);
  if (AtName("not") && AtName("in", 1)) {
    Next();
    Next();
    return std::optional(CompareOp::kNotIn);
  }
  return std::optional<CompareOp>();
}

Result<ExpressionPtr> ExpressionParser::ParseCompare() {
  const int line = Peek().line;
  TRY(ExpressionPtr first, ParseSum());
  CompareExpr node{std::move(first), {}};
  int depth = DepthOf(node.first);
  for (;;) {
    TRY(const std::optional<CompareOp> op, ParseCompareOp());
    if (!op) break;
    TRY(ExpressionPtr operand, ParseSum());
    depth = std::max(depth, DepthOf(operand));
    node.rest.emplace_back(*op, std::move(operand));
  }
  if (node.rest.empty()) return std::move(node.first);
  return Make(line, depth, std::move(node));
}

Result<ExpressionPtr> ExpressionParser::ParseArithmetic(
    Parsed (ExpressionParser::*operand)(),
    std::initializer_list<std::pair<std::string_view, BinaryOp>> ops) {
  const int line = Peek().line;
  TRY(ExpressionPtr first, (this->*operand)());
  ArithmeticExpr node{std::move(first), {}};
  int depth = DepthOf(node.first);
  for (;;) {
    const auto* op =
        std::find_if(ops.begin(), ops.end(), [&](const auto& o) { return SkipOperator(o.first); });
    if (op == ops.end()) break;
    TRY(ExpressionPtr next, (this->*operand)());
    depth = std::max(depth, DepthOf(next));
    node.rest.emplace_back(op->second, std::move(next));
  }
  if (node.rest.empty()) return std::move(node.first);
  return Make(line, depth, std::move(node));
}

Result<ExpressionPtr> ExpressionParser::ParseSum() {
  return ParseArithmetic(&ExpressionParser::ParseConcat,
                         {{"+", BinaryOp::kAdd}, {"-", BinaryOp::kSubtract}});
}

Result<ExpressionPtr> ExpressionParser::ParseConcat() {
  const int line = Peek().line;
  TRY(ExpressionPtr first, ParseProduct());
  if (!AtOperator("~")) return first;
  ConcatExpr node;
  node.operands.push_back(std::move(first));
  while (SkipOperator("~")) {
    TRY(ExpressionPtr next, ParseProduct());
    node.operands.push_back(std::move(next));
  }
  const int depth = MaxDepth(node.operands);
  return Make(line, depth, std::move(node));
}

Result<ExpressionPtr> ExpressionParser::ParseProduct() {
  return ParseArithmetic(&ExpressionParser::ParsePower, {{"*", BinaryOp::kMultiply},
                                                         {"/", BinaryOp::kDivide},
                                                         {"//", BinaryOp::kFloorDivide},
                                                         {"%", BinaryOp::kModulo}});
}

// From left to right, as jinja2 has it (Python's power binds from the right).
Result<ExpressionPtr> ExpressionParser::ParsePower() {
  const int line = Peek().line;
  TRY(ExpressionPtr first, ParseUnary(true));
  ArithmeticExpr node{std::move(first), {}};
  int depth = DepthOf(node.first);
  while (SkipOperator("**")) {
    TRY(ExpressionPtr next, ParseUnary(true));
    depth = std::max(depth, DepthOf(next));
    node.rest.emplace_back(BinaryOp::kPower, std::move(next));
  }
  if (node.rest.empty()) return std::move(node.first);
  return Make(line, depth, std::move(node));
}

Result<ExpressionPtr> ExpressionParser::ParseUnary(bool with_filter) {
  ExpressionPtr node;
  const int line = Peek().line;
  if (AtOperator("-") || AtOperator("+")) {
    Nested nested(*this);
    RETURN_IF_ERROR(nested.status());
    const UnaryOp op = Next().text == "-" ? UnaryOp::kMinus : UnaryOp::kPlus;
    TRY(ExpressionPtr operand, ParseUnary(false));
    const int depth = DepthOf(operand);
    TRY(node, Make(line, depth, UnaryExpr{op, std::move(operand)}));
  } else {
    TRY(node, ParsePrimary());
  }
  TRY(node, ParsePostfix(std::move(node)));
  if (with_filter) return ParseFilterExpression(std::move(node));
  return node;
}

Result<ExpressionPtr> ExpressionParser::ParsePrimary() {
  const Token token = Peek();
  switch (token.kind) {
    case TokenKind::kName: {
      Next();
      if (token.text == "true" || token.text == "True")
        return Make(token.line, 0, LiteralExpr{Value(true)});
      if (token.text == "false" || token.text == "False")
        return Make(token.line, 0, LiteralExpr{Value(false)});
      if (token.text == "none" || token.text == "None")
        return Make(token.line, 0, LiteralExpr{Value(NoneValue{})});
      for (MacroUses& uses : macro_uses_) {
        uses.caller |= token.text == "caller";
        uses.varargs |= token.text == "varargs";
        uses.kwargs |= token.text == "kwargs";
      }
      return Make(token.line, 0, NameExpr{std::string(token.text)});
    }
    case TokenKind::kString: return ParseStringLiteral();
    case TokenKind::kInteger:
    case TokenKind::kFloat: return ParseNumber();
    default: break;
  }
  if (SkipOperator("(")) {
    TRY(ExpressionPtr node, ParseTuple(true, true));
    RETURN_IF_ERROR(ExpectOperator(")"));
    return node;
  }
  if (AtOperator("[")) return ParseListLiteral();
  if (AtOperator("{")) return ParseDictLiteral();
  return Unexpected("an expression");
}

// Adjacent literals are one string.
Result<ExpressionPtr> ExpressionParser::ParseStringLiteral() {
  const int line = Peek().line;
  std::string text;
  while (Peek().kind == TokenKind::kString) {
    const Token token = Next();
    Result<std::string> part = DecodeString(token.text);
    if (!part.ok()) return Fail(token.line, "{}", part.status().message());
    text += *part;
  }
  return Make(line, 0, LiteralExpr{Value::Trusted(text)});
}

Result<ExpressionPtr> ExpressionParser::ParseNumber() {
  const Token token = Next();
  std::string digits(token.text);
  std::erase(digits, '_');
  if (token.kind == TokenKind::kFloat)
    return Make(token.line, 0, LiteralExpr{Value(std::strtod(digits.c_str(), nullptr))});
  int base = 10;
  if (digits.size() > 2 && digits[0] == '0') {
    const char mark = static_cast<char>(digits[1] | 32);
    base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
    if (base != 10) digits.erase(0, 2);
  }
  Int value = 0;
  if (!ParseDigits(digits, base, value))
    return Fail(token.line, "the integer {} is too large", Quoted(digits));
  return Make(token.line, 0, LiteralExpr{Value(value)});
}

Result<ExpressionPtr> ExpressionParser::ParseListLiteral() {
  const int line = Next().line;
  ListExpr node{{}, ListKind::kList};
  while (!AtOperator("]")) {
    if (!node.items.empty()) RETURN_IF_ERROR(ExpectOperator(","));
    if (AtOperator("]")) break;
    TRY(ExpressionPtr item, ParseExpression());
    node.items.push_back(std::move(item));
  }
  Next();
  const int depth = MaxDepth(node.items);
  return Make(line, depth, std::move(node));
}

Result<ExpressionPtr> ExpressionParser::ParseDictLiteral() {
  const int line = Next().line;
  DictExpr node;
  int depth = 0;
  while (!AtOperator("}")) {
    if (!node.entries.empty()) RETURN_IF_ERROR(ExpectOperator(","));
    if (AtOperator("}")) break;
    TRY(ExpressionPtr key, ParseExpression());
    RETURN_IF_ERROR(ExpectOperator(":"));
    TRY(ExpressionPtr value, ParseExpression());
    depth = std::max({depth, DepthOf(key), DepthOf(value)});
    node.entries.emplace_back(std::move(key), std::move(value));
  }
  Next();
  return Make(line, depth, std::move(node));
}

bool ExpressionParser::AtTupleEnd(std::string_view end_name) const {
  return Peek().kind == TokenKind::kVariableEnd || Peek().kind == TokenKind::kBlockEnd ||
         AtOperator(")") || (!end_name.empty() && AtName(end_name));
}

Result<ExpressionPtr> ExpressionParser::ParseTuple(bool with_conditional, bool in_parentheses,
                                                   std::string_view end_name) {
  const int line = Peek().line;
  ListExpr node{{}, ListKind::kTuple};
  bool is_tuple = false;
  for (;;) {
    if (!node.items.empty()) RETURN_IF_ERROR(ExpectOperator(","));
    if (AtTupleEnd(end_name)) break;
    TRY(ExpressionPtr item, ParseExpression(with_conditional));
    node.items.push_back(std::move(item));
    if (!AtOperator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple) {
    if (!node.items.empty()) return std::move(node.items[0]);
    if (!in_parentheses) return Unexpected("an expression");
  }
  const int depth = MaxDepth(node.items);
  return Make(line, depth, std::move(node));
}

Result<ExpressionPtr> ExpressionParser::ParsePostfix(ExpressionPtr node) {
  for (;;) {
    if (AtOperator(".") || AtOperator("[")) {
      TRY(node, ParseSubscript(std::move(node)));
    } else if (AtOperator("(")) {
      TRY(node, ParseCall(std::move(node)));
    } else {
      return node;
    }
  }
}

Result<ExpressionPtr> ExpressionParser::ParseFilterExpression(ExpressionPtr node) {
  for (;;) {
    if (AtOperator("|")) {
      TRY(node, ParseFilters(std::move(node), false));
    } else if (AtName("is")) {
      TRY(node, ParseTest(std::move(node)));
    } else if (AtOperator("(")) {
      TRY(node, ParseCall(std::move(node)));
    } else {
      return node;
    }
  }
}

Result<ExpressionPtr> ExpressionParser::ParseSubscript(ExpressionPtr object) {
  const Token token = Next();
  const int depth = DepthOf(object);
  if (token.text == ".") {
    if (Peek().kind == TokenKind::kName) {
      const std::string name(Next().text);
      return Make(token.line, depth, AttributeExpr{std::move(object), name});
    }
    if (Peek().kind != TokenKind::kInteger) return Unexpected("a name or a number");
    TRY(ExpressionPtr index, ParseNumber());
    return Make(token.line, depth, SubscriptExpr{std::move(object), std::move(index)});
  }
  SliceExpr slice;
  if (!AtOperator(":")) {
    if (AtOperator("]")) return Unexpected("a subscript");
    TRY(slice.start, ParseExpression());
    if (SkipOperator("]")) {
      const int inner = std::max(depth, DepthOf(slice.start));
      return Make(token.line, inner, SubscriptExpr{std::move(object), std::move(slice.start)});
    }
    if (AtOperator(",")) return Fail(token.line, "subscripts with a comma are not supported");
  }
  RETURN_IF_ERROR(ExpectOperator(":"));
  if (!AtOperator(":") && !AtOperator("]")) {
    TRY(slice.stop, ParseExpression());
  }
  if (SkipOperator(":") && !AtOperator("]")) {
    TRY(slice.step, ParseExpression());
  }
  RETURN_IF_ERROR(ExpectOperator("]"));
  slice.object = std::move(object);
  const int inner =
      std::max({depth, DepthOf(slice.start), DepthOf(slice.stop), DepthOf(slice.step)});
  return Make(token.line, inner, std::move(slice));
}

Result<CallArguments> ExpressionParser::ParseArguments() {
  const int line = Peek().line;
  RETURN_IF_ERROR(ExpectOperator("("));
  CallArguments out;
  bool comma = false;
  const auto ensure = [&](bool condition) {
    return condition ? Status() : Fail(line, "invalid order of arguments");
  };
  while (!AtOperator(")")) {
    if (comma) {
      RETURN_IF_ERROR(ExpectOperator(","));
      if (AtOperator(")")) break;
    }
    comma = true;
    if (SkipOperator("*")) {
      RETURN_IF_ERROR(ensure(!out.star && !out.star_star));
      TRY(out.star, ParseExpression());
    } else if (SkipOperator("**")) {
      RETURN_IF_ERROR(ensure(!out.star_star));
      TRY(out.star_star, ParseExpression());
    } else if (Peek().kind == TokenKind::kName && Peek(1).kind == TokenKind::kOperator &&
               Peek(1).text == "=") {
      RETURN_IF_ERROR(ensure(!out.star_star));
      std::string name(Next().text);
      Next();
      for (const auto& [other, value] : out.named)
        if (other == name) return Fail(line, "argument {} is given twice", Quoted(name));
      TRY(ExpressionPtr value, ParseExpression());
      out.named.emplace_back(std::move(name), std::move(value));
    } else {
      RETURN_IF_ERROR(ensure(!out.star && !out.star_star && out.named.empty()));
      TRY(ExpressionPtr value, ParseExpression());
      out.positional.push_back(std::move(value));
    }
  }
  Next();
  return out;
}

Result<ExpressionPtr> ExpressionParser::ParseCall(ExpressionPtr callee) {
  const int line = Peek().line;
  TRY(CallArguments arguments, ParseArguments());
  const int depth = std::max(DepthOf(callee), MaxDepth(arguments));
  return Make(line, depth, CallExpr{std::move(callee), std::move(arguments)});
}

Result<ExpressionPtr> ExpressionParser::ParseFilters(ExpressionPtr input, bool inline_start) {
  while (AtOperator("|") || inline_start) {
    if (!inline_start) Next();
    inline_start = false;
    const int line = Peek().line;
    TRY(const std::string name, ExpectName());
    FilterExpr node;
    node.filter = FindFilter(name);
    if (!node.filter) return Fail(line, "there is no filter {}", Quoted(name));
    if (AtOperator("(")) {
      TRY(node.arguments, ParseArguments());
    }
    const int depth = std::max(DepthOf(input), MaxDepth(node.arguments));
    node.input = std::move(input);
    TRY(input, Make(line, depth, std::move(node)));
  }
  return input;
}

Result<ExpressionPtr> ExpressionParser::ParseTest(ExpressionPtr input) {
  const int line = Next().line;
  const bool negated = SkipName("not");
  TRY(const std::string name, ExpectName());
  TestExpr node;
  node.test = FindTest(name);
  if (!node.test) return Fail(line, "there is no test {}", Quoted(name));
  const TokenKind kind = Peek().kind;
  if (AtOperator("(")) {
    TRY(node.arguments, ParseArguments());
  } else if ((kind == TokenKind::kName || kind == TokenKind::kString ||
              kind == TokenKind::kInteger || kind == TokenKind::kFloat || AtOperator("[") ||
              AtOperator("{")) &&
             !AtName("else") && !AtName("or") && !AtName("and")) {
    if (AtName("is")) return Fail(line, "tests can not be chained with 'is'");
    TRY(ExpressionPtr argument, ParsePrimary());
    TRY(argument, ParsePostfix(std::move(argument)));
    node.arguments.positional.push_back(std::move(argument));
  }
  const int depth = std::max(DepthOf(input), MaxDepth(node.arguments));
  node.input = std::move(input);
  TRY(ExpressionPtr test, Make(line, depth, std::move(node)));
  if (!negated) return test;
  return Make(line, depth + 1, UnaryExpr{UnaryOp::kNot, std::move(test)});
}

// Python's escapes; jinja2 decodes with the codec unicode-escape.
Result<std::string> DecodeString(std::string_view literal) {
  const std::string_view text = literal.substr(1, literal.size() - 2);
  const auto bad = [&](std::string_view what) {
    return Error(Code::kInvalidArgument, "{} in the string {}", what, Quoted(literal));
  };
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    const char c = text[++i];  // the lexer saw a character behind every backslash
    static constexpr std::string_view kFrom = "\\'\"abfnrtv", kTo = "\\'\"\a\b\f\n\r\t\v";
    if (const size_t simple = kFrom.find(c); simple != std::string_view::npos) {
      out += kTo[simple];
    } else if (c == '\n') {  // a continued line
    } else if (c >= '0' && c <= '7') {
      uint32_t value = 0;
      size_t digits = 0;
      for (; digits < 3 && i + digits < text.size() && text[i + digits] >= '0' &&
             text[i + digits] <= '7';
           ++digits)
        value = value * 8 + static_cast<uint32_t>(text[i + digits] - '0');
      i += digits - 1;
      AppendUtf8(value, out);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      if (i + 1 + digits > text.size()) return bad("an escape that is cut short");
      uint32_t value = 0;
      const char* begin = text.data() + i + 1;
      const auto [end, error] = std::from_chars(begin, begin + digits, value, 16);
      if (error != std::errc() || end != begin + digits)
        return bad("an escape that is not hexadecimal");
      if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
        return bad("an escape that is no character");
      AppendUtf8(value, out);
      i += digits;
    } else if (c == 'N') {
      return bad("an escape by character name (not supported)");
    } else {
      out += '\\';
      out += c;
    }
  }
  return out;
}

}  // namespace sluice::jinja
