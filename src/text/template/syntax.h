// The tree of a parsed template. Built once by the parser, read by interpreters on any thread. Its
// depth is bounded (kSyntaxDepthMax), so walking and freeing it may recurse.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "text/template/builtins.h"
#include "text/template/value.h"

namespace sluice::jinja {

/// Brackets, tags and operators within each other.
inline constexpr int kSyntaxDepthMax = 64;

struct Expression;
using ExpressionPtr = std::unique_ptr<const Expression>;

struct CallArguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr star;       // *args, or null
  ExpressionPtr star_star;  // **kwargs, or null
};

// clang-format off
struct LiteralExpr { Value value; };
struct NameExpr { std::string name; };
struct ListExpr { std::vector<ExpressionPtr> items; ListKind kind; };  // list or tuple
struct DictExpr { std::vector<std::pair<ExpressionPtr, ExpressionPtr>> entries; };
struct AttributeExpr { ExpressionPtr object; std::string name; };
struct SubscriptExpr { ExpressionPtr object, index; };
struct SliceExpr { ExpressionPtr object, start, stop, step; };  // any bound may be null
struct CallExpr { ExpressionPtr callee; CallArguments arguments; };
/// `input` is null in the innermost filter of a filter block or of a block set: the block's text.
struct FilterExpr { ExpressionPtr input; const Filter* filter; CallArguments arguments; };
struct TestExpr { ExpressionPtr input; const Test* test; CallArguments arguments; };

enum class UnaryOp { kNot, kMinus, kPlus };
struct UnaryExpr { UnaryOp op; ExpressionPtr operand; };
enum class BinaryOp { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
/// first op operand op operand ..., from left to right.
struct ArithmeticExpr { ExpressionPtr first; std::vector<std::pair<BinaryOp, ExpressionPtr>> rest; };
enum class CompareOp { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kIn, kNotIn };
struct CompareExpr { ExpressionPtr first; std::vector<std::pair<CompareOp, ExpressionPtr>> rest; };
struct LogicExpr { bool is_and; std::vector<ExpressionPtr> operands; };
struct ConcatExpr { std::vector<ExpressionPtr> operands; };
struct ConditionalExpr { ExpressionPtr condition, then, otherwise; };  // otherwise may be null
// clang-format on

struct Expression {
  int line;
  int depth;
  std::variant<LiteralExpr, NameExpr, ListExpr, DictExpr, AttributeExpr, SubscriptExpr, SliceExpr,
               CallExpr, FilterExpr, TestExpr, UnaryExpr, ArithmeticExpr, CompareExpr, LogicExpr,
               ConcatExpr, ConditionalExpr>
      node;
};

/// What a set, a for or a with assigns to: a name, a namespace's attribute, or a tuple of targets.
struct Target {
  std::string name;
  std::string attribute;      // empty: the name itself
  std::vector<Target> items;  // of a tuple
  bool is_tuple = false;
};

struct Statement;
using Body = std::vector<Statement>;

struct Parameter {
  std::string name;
  ExpressionPtr otherwise;  // the default, or null
};

/// A macro, or the body of a call block.
struct MacroBody {
  std::string name;
  std::vector<Parameter> parameters;
  Body body;
  bool uses_caller = false, uses_varargs = false, uses_kwargs = false;
};

struct TextStatement {
  TextPtr text;
};
struct OutputStatement {
  std::vector<ExpressionPtr> values;
};
struct ForStatement {
  Target target;
  ExpressionPtr iterable, condition;  // condition may be null
  Body body, otherwise;
};
struct IfStatement {
  std::vector<std::pair<ExpressionPtr, Body>> branches;
  Body otherwise;
};
struct SetStatement {
  Target target;
  ExpressionPtr value;
};
struct SetBlockStatement {
  Target target;
  ExpressionPtr filter;
  Body body;
};  // filter may be null
struct MacroStatement {
  MacroBody macro;
};
struct CallStatement {
  ExpressionPtr call;
  MacroBody caller;
};
struct FilterStatement {
  ExpressionPtr filter;
  Body body;
};
struct WithStatement {
  std::vector<std::pair<Target, ExpressionPtr>> variables;
  Body body;
};
struct BreakStatement {};
struct ContinueStatement {};

struct Statement {
  int line;
  std::variant<TextStatement, OutputStatement, ForStatement, IfStatement, SetStatement,
               SetBlockStatement, MacroStatement, CallStatement, FilterStatement, WithStatement,
               BreakStatement, ContinueStatement>
      node;
};

}  // namespace sluice::jinja
