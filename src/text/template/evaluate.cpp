// The expressions of the interpreter.
#include <algorithm>

#include "text/template/interpreter.h"
#include "text/template/operators.h"
#include "text/template/python_text.h"
#include "text/template/unicode.h"

namespace sluice::jinja {

Result<Value> Interpreter::Eval(const Expression& expression) {
  const auto run = [&]() -> Result<Value> {
    const Frame frame(budget_);
    RETURN_IF_ERROR(frame.status());
    RETURN_IF_ERROR(budget_.Ticks(1));
    return std::visit([this](const auto& node) { return Get(node); }, expression.node);
  };
  Result<Value> value = run();
  if (!value.ok() && error_line_ == 0) error_line_ = expression.line;
  return value;
}

Result<Value> Interpreter::Get(const LiteralExpr& node) { return node.value; }

Result<Value> Interpreter::Get(const NameExpr& node) {
  for (const Scope* scope = scope_.get(); scope; scope = scope->around.get()) {
    const auto found = scope->variables.find(node.name);
    if (found != scope->variables.end()) return found->second;
  }
  if (const Method* global = FindGlobal(node.name)) {
    auto callable = std::make_shared<Callable>();
    callable->function = global->function;
    return Value(std::shared_ptr<const Callable>(std::move(callable)));
  }
  return Value::Undefined(fmt::format("{} is undefined", Quoted(node.name)));
}

Result<Value> Interpreter::Get(const ListExpr& node) {
  std::vector<Value> items;
  items.reserve(node.items.size());
  for (const ExpressionPtr& item : node.items) {
    TRY(Value value, Eval(*item));
    items.push_back(std::move(value));
  }
  return MakeList(std::move(items), budget_, node.kind);
}

Result<Value> Interpreter::Get(const DictExpr& node) {
  Dict dict;
  for (const auto& [key_node, value_node] : node.entries) {
    TRY(Value key, Eval(*key_node));
    TRY(Value value, Eval(*value_node));
    const std::string_view type = key.TypeName();
    if (!dict.Set(std::move(key), std::move(value)))
      return Error(Code::kInvalidArgument, "a {} can not be a key", type);
  }
  return MakeDict(std::move(dict), budget_);
}

Result<Value> Interpreter::Get(const AttributeExpr& node) {
  TRY(const Value object, Eval(*node.object));
  return GetAttribute(object, node.name);
}

Result<Value> Interpreter::Get(const SubscriptExpr& node) {
  TRY(const Value object, Eval(*node.object));
  TRY(const Value index, Eval(*node.index));
  return GetItem(object, index);
}

Result<Value> Interpreter::Get(const SliceExpr& node) {
  TRY(const Value object, Eval(*node.object));
  Value bounds[3] = {NoneValue{}, NoneValue{}, NoneValue{}};
  const Expression* nodes[3] = {node.start.get(), node.stop.get(), node.step.get()};
  for (int i = 0; i < 3; ++i) {
    if (!nodes[i]) continue;
    TRY(bounds[i], Eval(*nodes[i]));
  }
  return Slice(object, bounds[0], bounds[1], bounds[2], budget_);
}

Result<Arguments> Interpreter::EvalArguments(const CallArguments& node) {
  Arguments args;
  for (const ExpressionPtr& expression : node.positional) {
    TRY(Value value, Eval(*expression));
    args.positional.push_back(std::move(value));
  }
  for (const auto& [name, expression] : node.named) {
    TRY(Value value, Eval(*expression));
    args.named.emplace_back(name, std::move(value));
  }
  if (node.star) {
    TRY(const Value value, Eval(*node.star));
    TRY(const ListPtr more, Iterate(value, budget_));
    RETURN_IF_ERROR(budget_.Work(more->items.size() * sizeof(Value)));
    args.positional.insert(args.positional.end(), more->items.begin(), more->items.end());
  }
  if (node.star_star) {
    TRY(const Value value, Eval(*node.star_star));
    const Dict* dict = value.AsDict();
    if (!dict)
      return Error(Code::kInvalidArgument, "'**' takes a dict, not a {}", value.TypeName());
    RETURN_IF_ERROR(budget_.Work(dict->size() * sizeof(Value)));
    for (const auto& [key, item] : dict->entries()) {
      const TracedText* name = key.AsText();
      if (!name) return Error(Code::kInvalidArgument, "'**' takes a dict with text keys");
      for (const auto& [other, unused] : node.named)
        if (other == name->bytes)
          return Error(Code::kInvalidArgument, "argument {} is given twice", Quoted(other));
      args.named.emplace_back(name->bytes, item);
    }
  }
  return args;
}

Result<Value> Interpreter::Get(const CallExpr& node) { return EvalCall(node, nullptr); }

Result<Value> Interpreter::EvalCall(const CallExpr& node, const Value* caller) {
  TRY(const Value callee, Eval(*node.callee));
  TRY(Arguments args, EvalArguments(node.arguments));
  if (caller) args.named.emplace_back("caller", *caller);
  return Call(callee, args);
}

Result<Value> Interpreter::Call(const Value& callee, const Arguments& args) {
  RETURN_IF_ERROR(budget_.Step());
  if (const auto* undefined = std::get_if<UndefinedValue>(&callee.data))
    return Error(Code::kInvalidArgument, "{}", undefined->hint ? *undefined->hint : "undefined");
  const Callable* callable = callee.AsCallable();
  if (!callable) return Error(Code::kInvalidArgument, "a {} can not be called", callee.TypeName());
  if (callable->macro) return CallMacro(*callable, args);
  return callable->function(*this, callable->receiver, args);
}

Result<Value> Interpreter::Get(const FilterExpr& node) {
  Value input;
  if (node.input) {
    TRY(input, Eval(*node.input));
  } else {
    input = std::move(block_text_);
  }
  TRY(const Arguments args, EvalArguments(node.arguments));
  Result<Value> value = node.filter->run(*this, input, args);
  if (value.ok() || raised_ || error_line_ != 0) return value;
  return Error(value.status().code(), "filter '{}': {}", node.filter->name,
               value.status().message());
}

Result<Value> Interpreter::Get(const TestExpr& node) {
  TRY(const Value input, Eval(*node.input));
  TRY(const Arguments args, EvalArguments(node.arguments));
  Result<bool> answer = node.test->run(*this, input, args);
  if (answer.ok()) return Value(*answer);
  return Error(answer.status().code(), "test '{}': {}", node.test->name, answer.status().message());
}

Result<Value> Interpreter::Get(const UnaryExpr& node) {
  TRY(const Value operand, Eval(*node.operand));
  if (node.op == UnaryOp::kNot) return Value(!operand.Truth());
  if (node.op == UnaryOp::kMinus) return Negate(operand, budget_);
  if (!operand.IsNumber()) return Negate(operand, budget_);  // the same refusal
  Int storage;
  if (const Int* i = operand.AsInt(storage)) return Value(*i);
  return operand;
}

Result<Value> Interpreter::Get(const ArithmeticExpr& node) {
  TRY(Value value, Eval(*node.first));
  for (const auto& [op, operand_node] : node.rest) {
    TRY(const Value operand, Eval(*operand_node));
    TRY(value, Arithmetic(op, value, operand, budget_));
  }
  return value;
}

Result<Value> Interpreter::Get(const CompareExpr& node) {
  TRY(Value left, Eval(*node.first));
  for (const auto& [op, operand_node] : node.rest) {
    TRY(Value right, Eval(*operand_node));
    TRY(const bool holds, Compare(op, left, right, budget_));
    if (!holds) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

// As in Python, the value of the operand that decides.
Result<Value> Interpreter::Get(const LogicExpr& node) {
  Value value;
  for (const ExpressionPtr& operand : node.operands) {
    TRY(value, Eval(*operand));
    if (value.Truth() != node.is_and) break;
  }
  return value;
}

Result<Value> Interpreter::Get(const ConcatExpr& node) {
  TextBuilder out(budget_);
  for (const ExpressionPtr& operand : node.operands) {
    TRY(const Value value, Eval(*operand));
    RETURN_IF_ERROR(AppendText(value, out, budget_));
  }
  TRY(TextPtr text, out.Finish());
  return Value(std::move(text));
}

Result<Value> Interpreter::Get(const ConditionalExpr& node) {
  TRY(const Value condition, Eval(*node.condition));
  if (condition.Truth()) return Eval(*node.then);
  if (node.otherwise) return Eval(*node.otherwise);
  return Value::Undefined("the inline if-expression has no else");
}

static Value BindMethod(const Method& method, const Value& receiver) {
  auto callable = std::make_shared<Callable>();
  callable->function = method.function;
  callable->receiver = receiver;
  return Value(std::shared_ptr<const Callable>(std::move(callable)));
}

static Value NoAttribute(const Value& object, std::string_view name) {
  return Value::Undefined(
      fmt::format("'{} object' has no attribute {}", object.TypeName(), Quoted(name)));
}

static Status UndefinedError(const Value& value) {
  const auto& hint = std::get<UndefinedValue>(value.data).hint;
  return Error(Code::kInvalidArgument, "{}", hint ? *hint : "undefined value");
}

Result<Value> Interpreter::GetAttribute(const Value& object, std::string_view name) {
  if (object.IsUndefined()) return UndefinedError(object);
  if (const Method* method = FindMethod(object, name)) {
    if (!method->function)
      return Error(Code::kInvalidArgument, "the {} method '{}' is not supported", object.TypeName(),
                   name);
    return BindMethod(*method, object);
  }
  if (const Dict* dict = object.AsDict()) {
    if (const Value* value = dict->Find(name)) return *value;
  }
  if (const Namespace* space = object.AsNamespace()) {
    const auto found = space->attributes.find(name);
    if (found != space->attributes.end()) return found->second;
  }
  if (const Loop* loop = object.AsLoop()) return GetLoopAttribute(object, *loop, name);
  return NoAttribute(object, name);
}

Result<Value> Interpreter::GetItem(const Value& object, const Value& index) {
  if (object.IsUndefined()) return UndefinedError(object);
  if (const Dict* dict = object.AsDict()) {
    if (const TracedText* key = index.AsText()) RETURN_IF_ERROR(budget_.Work(key->bytes.size()));
    if (const Value* value = dict->Find(index)) return *value;
  }
  Int storage;
  const Int* position = index.AsInt(storage);
  if (const List* list = object.AsList(); list && position && list->kind <= ListKind::kRange) {
    const Int size = static_cast<Int>(list->items.size());
    const Int i = *position < 0 ? *position + size : *position;
    if (i >= 0 && i < size) return list->items[static_cast<size_t>(i)];
  }
  if (const TracedText* text = object.AsText(); text && position) {
    RETURN_IF_ERROR(budget_.Work(text->bytes.size()));
    const Int size = static_cast<Int>(CountCodePoints(text->bytes));
    const Int i = *position < 0 ? *position + size : *position;
    if (i >= 0 && i < size) {
      const ByteRange range =
          CodePointRange(text->bytes, static_cast<size_t>(i), static_cast<size_t>(i) + 1);
      return Substring(*text, range.begin, range.end, budget_);
    }
  }
  // jinja2 asks for an attribute next; for dictionaries only methods are left.
  if (const TracedText* name = index.AsText()) {
    if (!object.AsDict()) return GetAttribute(object, name->bytes);
    if (const Method* method = FindMethod(object, name->bytes); method && method->function)
      return BindMethod(*method, object);
  }
  return Value::Undefined(fmt::format("'{} object' has no such element", object.TypeName()));
}

namespace {

Result<Value> LoopCycle(Interpreter&, const Value& receiver, const Arguments& args) {
  if (args.positional.empty() || !args.named.empty())
    return Error(Code::kInvalidArgument, "loop.cycle takes one or more values");
  return args.positional[receiver.AsLoop()->index % args.positional.size()];
}

Result<Value> LoopChanged(Interpreter& interpreter, const Value& receiver, const Arguments& args) {
  Loop& loop = *receiver.AsLoop();
  if (loop.over) return Error(Code::kInvalidArgument, "loop.changed behind the end of its loop");
  if (!args.named.empty()) return Error(Code::kInvalidArgument, "loop.changed takes values only");
  bool same = loop.has_changed && loop.last_changed.size() == args.positional.size();
  for (size_t i = 0; same && i < args.positional.size(); ++i) {
    TRY(same, Equal(loop.last_changed[i], args.positional[i], interpreter.budget()));
  }
  loop.last_changed = args.positional;
  loop.has_changed = true;
  return Value(!same);
}

}  // namespace

Result<Value> Interpreter::GetLoopAttribute(const Value& object, const Loop& loop,
                                            std::string_view name) {
  static constexpr Method kMethods[] = {{"cycle", LoopCycle}, {"changed", LoopChanged}};
  for (const Method& method : kMethods)
    if (name == method.name) return BindMethod(method, object);
  const std::vector<Value>& items = loop.items->items;
  const Int index = static_cast<Int>(loop.index), length = static_cast<Int>(items.size());
  if (name == "index") return Value(index + 1);
  if (name == "index0") return Value(index);
  if (name == "revindex") return Value(length - index);
  if (name == "revindex0") return Value(length - index - 1);
  if (name == "first") return Value(index == 0);
  if (name == "last") return Value(index + 1 >= length);
  if (name == "length") return Value(length);
  if (name == "depth") return Value(Int{1});  // counts recursion only, which we do not have
  if (name == "depth0") return Value(Int{0});
  if (name == "previtem")
    return index == 0 ? Value::Undefined("there is no previous item") : items[loop.index - 1];
  if (name == "nextitem")
    return index + 1 >= length ? Value::Undefined("there is no next item") : items[loop.index + 1];
  return NoAttribute(object, name);
}

}  // namespace sluice::jinja
