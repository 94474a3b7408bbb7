#include "text/template/interpreter.h"

#include <algorithm>

#include "text/template/operators.h"
#include "text/template/python_text.h"

namespace sluice::jinja {

/// A scope inside the current one (or inside `around`), until the end of the block.
class Interpreter::NewScope {
 public:
  explicit NewScope(Interpreter& interpreter) : NewScope(interpreter, interpreter.scope_) {}
  NewScope(Interpreter& interpreter, std::shared_ptr<Scope> around)
      : interpreter_(interpreter), before_(interpreter.scope_) {
    interpreter_.scope_ = std::make_shared<Scope>(Scope{std::move(around), {}});
  }
  ~NewScope() { interpreter_.scope_ = std::move(before_); }

 private:
  Interpreter& interpreter_;
  std::shared_ptr<Scope> before_;
};

/// Output goes into a text of its own, until the end of the block.
class Interpreter::Capture {
 public:
  explicit Capture(Interpreter& interpreter)
      : interpreter_(interpreter), builder_(interpreter.budget_), before_(interpreter.out_) {
    interpreter_.out_ = &builder_;
  }
  ~Capture() { interpreter_.out_ = before_; }
  Result<TextPtr> Finish() { return builder_.Finish(); }

 private:
  Interpreter& interpreter_;
  TextBuilder builder_;
  TextBuilder* before_;
};

Interpreter::~Interpreter() {
  scope_.reset();
  for (const auto& space : namespaces_) space->attributes.clear();
}

Result<TracedText> Interpreter::Run(const Body& body, std::shared_ptr<Scope> inputs) {
  TextBuilder out(budget_);
  out_ = &out;
  scope_ = std::make_shared<Scope>(Scope{std::move(inputs), {}});
  Result<Flow> flow = Exec(body);
  Status status = flow.ok() ? Status() : flow.status();
  if (!status.ok()) {
    if (raised_) return status;
    return Error(status.code(), "chat template line {}: {}", error_line_, status.message());
  }
  return out.FinishText();
}

Result<Interpreter::Flow> Interpreter::Exec(const Body& body) {
  for (const Statement& statement : body) {
    TRY(const Flow flow, Exec(statement));
    if (flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Result<Interpreter::Flow> Interpreter::Exec(const Statement& statement) {
  const auto run = [&]() -> Result<Flow> {
    const Frame frame(budget_);
    RETURN_IF_ERROR(frame.status());
    RETURN_IF_ERROR(budget_.Step());
    TRY(const Flow flow,
        std::visit([this](const auto& node) { return Run(node); }, statement.node));
    // A text that has grown too long ends the run at the statement that did it.
    if (out_->full()) return out_->Finish().status();
    return flow;
  };
  Result<Flow> flow = run();
  if (!flow.ok() && error_line_ == 0) error_line_ = statement.line;
  return flow;
}

Result<Interpreter::Flow> Interpreter::Run(const TextStatement& node) {
  RETURN_IF_ERROR(budget_.Work(node.text->bytes.size()));
  out_->Append(*node.text);
  return Flow::kNormal;
}

Result<Interpreter::Flow> Interpreter::Run(const OutputStatement& node) {
  for (const ExpressionPtr& expression : node.values) {
    TRY(const Value value, Eval(*expression));
    if (const TracedText* text = value.AsText()) RETURN_IF_ERROR(budget_.Work(text->bytes.size()));
    RETURN_IF_ERROR(AppendText(value, *out_, budget_));
  }
  return Flow::kNormal;
}

Result<Interpreter::Flow> Interpreter::Run(const IfStatement& node) {
  for (const auto& [condition, body] : node.branches) {
    TRY(const Value value, Eval(*condition));
    if (value.Truth()) return Exec(body);
  }
  return Exec(node.otherwise);
}

// The items, without those that the loop's own condition leaves out.
Result<ListPtr> Interpreter::LoopItems(const ForStatement& node) {
  TRY(const Value iterable, Eval(*node.iterable));
  TRY(ListPtr items, Iterate(iterable, budget_));
  if (!node.condition) return items;
  std::vector<Value> kept;
  NewScope scope(*this);
  for (const Value& item : items->items) {
    RETURN_IF_ERROR(budget_.Step());
    RETURN_IF_ERROR(Assign(node.target, item));
    TRY(const Value keep, Eval(*node.condition));
    if (keep.Truth()) kept.push_back(item);
  }
  TRY(const Value list, MakeList(std::move(kept), budget_));
  return std::get<ListPtr>(list.data);
}

Result<Interpreter::Flow> Interpreter::Run(const ForStatement& node) {
  auto loop = std::make_shared<Loop>();
  TRY(loop->items, LoopItems(node));
  bool completed = false;
  Status status = RunLoop(node, loop, completed);
  loop->over = true;
  loop->last_changed.clear();
  RETURN_IF_ERROR(status);
  if (completed) return Flow::kNormal;
  NewScope scope(*this);
  return Exec(node.otherwise);
}

// As in jinja2, the else part runs unless some round reached the end of the body: a loop whose
// every round ends in break or continue counts as empty.
Status Interpreter::RunLoop(const ForStatement& node, const std::shared_ptr<Loop>& loop,
                            bool& completed) {
  for (; loop->index < loop->items->items.size(); ++loop->index) {
    RETURN_IF_ERROR(budget_.Step());
    NewScope scope(*this);
    scope_->variables.emplace("loop", loop);
    RETURN_IF_ERROR(Assign(node.target, loop->items->items[loop->index]));
    TRY(const Flow flow, Exec(node.body));
    if (flow == Flow::kBreak) break;
    if (flow == Flow::kNormal) completed = true;
  }
  return {};
}

Status Interpreter::Assign(const Target& target, const Value& value) {
  if (target.is_tuple) {
    TRY(const ListPtr parts, Iterate(value, budget_));
    if (parts->items.size() != target.items.size())
      return Error(Code::kInvalidArgument, "{} values for {} names", parts->items.size(),
                   target.items.size());
    for (size_t i = 0; i < target.items.size(); ++i)
      RETURN_IF_ERROR(Assign(target.items[i], parts->items[i]));
    return {};
  }
  if (target.attribute.empty()) {
    scope_->variables.insert_or_assign(target.name, value);
    return {};
  }
  TRY(const Value object, Get(NameExpr{target.name}));
  Namespace* space = object.AsNamespace();
  if (!space)
    return Error(Code::kInvalidArgument,
                 "can not set an attribute of {}: it is a {}, not a namespace", Quoted(target.name),
                 object.TypeName());
  RETURN_IF_ERROR(budget_.Work(target.attribute.size() + sizeof(Value)));
  space->attributes.insert_or_assign(target.attribute, value);
  return {};
}

Result<Interpreter::Flow> Interpreter::Run(const SetStatement& node) {
  TRY(const Value value, Eval(*node.value));
  RETURN_IF_ERROR(Assign(node.target, value));
  return Flow::kNormal;
}

Result<Interpreter::Flow> Interpreter::RunCaptured(const Body& body, Value& text) {
  NewScope scope(*this);
  Capture capture(*this);
  TRY(const Flow flow, Exec(body));
  TRY(text, capture.Finish());
  return flow;
}

Result<Interpreter::Flow> Interpreter::Run(const SetBlockStatement& node) {
  Value value;
  TRY(const Flow flow, RunCaptured(node.body, value));
  if (flow != Flow::kNormal) return flow;
  if (node.filter) {
    block_text_ = std::move(value);
    TRY(value, Eval(*node.filter));
  }
  RETURN_IF_ERROR(Assign(node.target, value));
  return Flow::kNormal;
}

Result<Interpreter::Flow> Interpreter::Run(const FilterStatement& node) {
  TRY(const Flow flow, RunCaptured(node.body, block_text_));
  if (flow != Flow::kNormal) return flow;
  TRY(const Value value, Eval(*node.filter));
  RETURN_IF_ERROR(AppendText(value, *out_, budget_));
  return Flow::kNormal;
}

Result<Interpreter::Flow> Interpreter::Run(const WithStatement& node) {
  std::vector<Value> values;
  for (const auto& [target, expression] : node.variables) {
    TRY(Value value, Eval(*expression));
    values.push_back(std::move(value));
  }
  NewScope scope(*this);
  for (size_t i = 0; i < values.size(); ++i)
    RETURN_IF_ERROR(Assign(node.variables[i].first, values[i]));
  return Exec(node.body);
}

Value Interpreter::MakeMacro(const MacroBody& macro) const {
  auto callable = std::make_shared<Callable>();
  callable->macro = &macro;
  callable->scope = scope_;
  return Value(std::shared_ptr<const Callable>(std::move(callable)));
}

Result<Interpreter::Flow> Interpreter::Run(const MacroStatement& node) {
  scope_->variables.insert_or_assign(node.macro.name, MakeMacro(node.macro));
  return Flow::kNormal;
}

Result<Interpreter::Flow> Interpreter::Run(const CallStatement& node) {
  const Value caller = MakeMacro(node.caller);
  TRY(const Value value, EvalCall(std::get<CallExpr>(node.call->node), &caller));
  RETURN_IF_ERROR(AppendText(value, *out_, budget_));
  return Flow::kNormal;
}

// Source: jinja2.runtime.Macro.__call__.
Status Interpreter::BindMacro(const MacroBody& macro, const Arguments& args) {
  std::vector<std::pair<std::string, Value>> named = args.named;
  const auto take = [&](std::string_view name, Value& out) {
    const auto found = std::find_if(named.begin(), named.end(),
                                    [&](const auto& entry) { return entry.first == name; });
    if (found == named.end()) return false;
    out = std::move(found->second);
    named.erase(found);
    return true;
  };
  bool explicit_caller = false;
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    const Parameter& parameter = macro.parameters[i];
    explicit_caller |= parameter.name == "caller";
    Value value;
    if (i < args.positional.size()) {
      value = args.positional[i];
    } else if (!take(parameter.name, value)) {
      value = Value::Undefined(fmt::format("parameter '{}' was not provided", parameter.name));
      if (parameter.otherwise) {
        TRY(value, Eval(*parameter.otherwise));
      }
    }
    scope_->variables.insert_or_assign(parameter.name, std::move(value));
  }
  if (macro.uses_caller && !explicit_caller) {
    Value caller = Value::Undefined("No caller defined");
    take("caller", caller);
    scope_->variables.insert_or_assign("caller", std::move(caller));
  }
  if (macro.uses_kwargs) {
    Dict kwargs;
    for (const auto& [name, value] : named) {
      // Names of arguments are written in the template, or were keys of a dictionary: unknown.
      kwargs.Set(TextPtr(std::make_shared<TracedText>(TracedText::Untrusted(name))), value);
    }
    TRY(Value dict, MakeDict(std::move(kwargs), budget_));
    scope_->variables.insert_or_assign("kwargs", std::move(dict));
  } else if (!named.empty()) {
    return Error(Code::kInvalidArgument, "macro {} has no argument {}", Quoted(macro.name),
                 Quoted(named[0].first));
  }
  const size_t parameters = macro.parameters.size();
  if (macro.uses_varargs) {
    std::vector<Value> rest;
    if (args.positional.size() > parameters)
      rest.assign(args.positional.begin() + static_cast<ptrdiff_t>(parameters),
                  args.positional.end());
    TRY(Value list, MakeList(std::move(rest), budget_, ListKind::kTuple));
    scope_->variables.insert_or_assign("varargs", std::move(list));
  } else if (args.positional.size() > parameters) {
    return Error(Code::kInvalidArgument, "macro {} takes {} arguments, not {}", Quoted(macro.name),
                 parameters, args.positional.size());
  }
  return {};
}

Result<Value> Interpreter::CallMacro(const Callable& callable, const Arguments& args) {
  const MacroBody& macro = *callable.macro;
  std::shared_ptr<Scope> around = callable.scope.lock();
  if (!around)
    return Error(Code::kInvalidArgument, "macro {} is called outside of the block that defines it",
                 Quoted(macro.name));
  RETURN_IF_ERROR(budget_.EnterCall());
  const auto run = [&]() -> Result<Value> {
    NewScope scope(*this, std::move(around));
    RETURN_IF_ERROR(BindMacro(macro, args));
    Capture capture(*this);
    TRY(const Flow flow, Exec(macro.body));
    (void)flow;  // the parser lets no break leave a macro
    TRY(TextPtr text, capture.Finish());
    return Value(std::move(text));
  };
  Result<Value> text = run();
  budget_.LeaveCall();
  return text;
}

std::shared_ptr<Namespace> Interpreter::NewNamespace() {
  namespaces_.push_back(std::make_shared<Namespace>());
  return namespaces_.back();
}

Status Interpreter::Raise(std::string message) {
  raised_ = true;
  return Status(Code::kInvalidArgument, std::move(message), "messages");
}

}  // namespace sluice::jinja
