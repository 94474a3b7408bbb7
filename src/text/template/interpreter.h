// Runs a syntax tree once. Everything that may take long or grow asks the budget; an error carries
// the line of the innermost expression or statement that met it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/template/syntax.h"

namespace sluice::jinja {

/// Variables of a block; names that are not here are looked up around it. What a scope sets is gone
/// with it (a loop's body can not set a variable outside: that is what namespaces are for).
struct Scope {
  std::shared_ptr<Scope> around;
  std::map<std::string, Value, std::less<>> variables;
};

class Interpreter {
 public:
  Interpreter(Budget& budget, int64_t now_unix_s) : budget_(budget), now_unix_s_(now_unix_s) {}
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  /// Renders `body` with the variables of `inputs` around it.
  Result<TracedText> Run(const Body& body, std::shared_ptr<Scope> inputs);

  // For filters, tests and methods.
  Budget& budget() { return budget_; }
  int64_t now_unix_s() const { return now_unix_s_; }
  Result<Value> Call(const Value& callee, const Arguments& args);
  /// object.name and object[index], with jinja2's fallbacks from one to the other.
  Result<Value> GetAttribute(const Value& object, std::string_view name);
  Result<Value> GetItem(const Value& object, const Value& index);
  std::shared_ptr<Namespace> NewNamespace();
  /// What raise_exception was called with: this message is shown without a line.
  Status Raise(std::string message);

 private:
  enum class Flow { kNormal, kBreak, kContinue };
  class NewScope;
  class Capture;

  Result<Flow> Exec(const Body& body);
  Result<Flow> Exec(const Statement& statement);
  Result<Flow> Run(const TextStatement& node);
  Result<Flow> Run(const OutputStatement& node);
  Result<Flow> Run(const ForStatement& node);
  Result<Flow> Run(const IfStatement& node);
  Result<Flow> Run(const SetStatement& node);
  Result<Flow> Run(const SetBlockStatement& node);
  Result<Flow> Run(const MacroStatement& node);
  Result<Flow> Run(const CallStatement& node);
  Result<Flow> Run(const FilterStatement& node);
  Result<Flow> Run(const WithStatement& node);
  Result<Flow> Run(const BreakStatement&) { return Flow::kBreak; }
  Result<Flow> Run(const ContinueStatement&) { return Flow::kContinue; }
  Result<ListPtr> LoopItems(const ForStatement& node);
  Status RunLoop(const ForStatement& node, const std::shared_ptr<Loop>& loop, bool& completed);
  Status Assign(const Target& target, const Value& value);
  /// Runs `body` in a scope of its own and returns what it wrote.
  Result<Flow> RunCaptured(const Body& body, Value& text);

  Result<Value> Eval(const Expression& expression);
  Result<Value> Get(const LiteralExpr& node);
  Result<Value> Get(const NameExpr& node);
  Result<Value> Get(const ListExpr& node);
  Result<Value> Get(const DictExpr& node);
  Result<Value> Get(const AttributeExpr& node);
  Result<Value> Get(const SubscriptExpr& node);
  Result<Value> Get(const SliceExpr& node);
  Result<Value> Get(const CallExpr& node);
  Result<Value> Get(const FilterExpr& node);
  Result<Value> Get(const TestExpr& node);
  Result<Value> Get(const UnaryExpr& node);
  Result<Value> Get(const ArithmeticExpr& node);
  Result<Value> Get(const CompareExpr& node);
  Result<Value> Get(const LogicExpr& node);
  Result<Value> Get(const ConcatExpr& node);
  Result<Value> Get(const ConditionalExpr& node);
  Result<Arguments> EvalArguments(const CallArguments& node);
  Result<Value> EvalCall(const CallExpr& node, const Value* caller);
  Value MakeMacro(const MacroBody& macro) const;
  Result<Value> CallMacro(const Callable& callable, const Arguments& args);
  Status BindMacro(const MacroBody& macro, const Arguments& args);
  Result<Value> GetLoopAttribute(const Value& object, const Loop& loop, std::string_view name);

  Budget& budget_;
  int64_t now_unix_s_;
  std::shared_ptr<Scope> scope_;
  TextBuilder* out_ = nullptr;
  Value block_text_;                                    // input of a block's innermost filter
  std::vector<std::shared_ptr<Namespace>> namespaces_;  // emptied at the end: they may form cycles
  int error_line_ = 0;
  bool raised_ = false;
};

}  // namespace sluice::jinja
