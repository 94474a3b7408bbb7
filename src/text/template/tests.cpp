// The tests of the language (`x is name`). Source: jinja2/tests.py, version 3.1.
#include <algorithm>

#include "text/template/builtins.h"
#include "text/template/interpreter.h"
#include "text/template/operators.h"
#include "text/template/python_text.h"

namespace sluice::jinja {
namespace {

// A test without arguments, from a plain question about the value.
template <bool (*question)(const Value&)>
Result<bool> Ask(Interpreter&, const Value& input, const Arguments& args) {
  RETURN_IF_ERROR(BoundArguments::Bind(args, {}).status());
  return question(input);
}

template <CompareOp op>
Result<bool> CompareTest(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"b"}, 1));
  return Compare(op, input, *bound.Get(0), run.budget());
}

template <int remainder>
Result<bool> Parity(Interpreter& run, const Value& input, const Arguments& args) {
  RETURN_IF_ERROR(BoundArguments::Bind(args, {}).status());
  TRY(const Value rest, Arithmetic(BinaryOp::kModulo, input, Value(Int{2}), run.budget()));
  return Equal(rest, Value(Int{remainder}), run.budget());
}

Result<bool> DivisibleBy(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"num"}, 1));
  TRY(const Value rest, Arithmetic(BinaryOp::kModulo, input, *bound.Get(0), run.budget()));
  return Equal(rest, Value(Int{0}), run.budget());
}

Result<bool> SameAs(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"other"}, 1));
  const Value& other = *bound.Get(0);
  if (input.data.index() != other.data.index()) return false;
  if (input.AsText()) return input.AsText() == other.AsText();
  if (input.AsList()) return input.AsList() == other.AsList();
  if (input.AsDict()) return input.AsDict() == other.AsDict();
  return Equal(input, other, run.budget());
}

template <bool upper>
Result<bool> HasCase(Interpreter& run, const Value& input, const Arguments& args) {
  RETURN_IF_ERROR(BoundArguments::Bind(args, {}).status());
  TRY(const TextPtr text, ToText(input, run.budget()));
  const Method* method = FindMethod(Value(text), upper ? "isupper" : "islower");
  TRY(const Value answer, method->function(run, Value(text), {}));
  return answer.Truth();
}

template <auto find>
Result<bool> Exists(Interpreter&, const Value& input, const Arguments& args) {
  RETURN_IF_ERROR(BoundArguments::Bind(args, {}).status());
  if (!input.IsHashable())
    return Error(Code::kInvalidArgument, "a {} can not be a name", input.TypeName());
  const TracedText* name = input.AsText();
  return name && find(name->bytes) != nullptr;
}

bool IsSequence(const Value& value) {
  if (const List* list = value.AsList()) return list->kind <= ListKind::kRange;
  return value.AsText() || value.AsDict() || value.IsUndefined();
}
bool IsIterable(const Value& value) {
  return value.AsText() || value.AsList() || value.AsDict() || value.AsLoop() ||
         value.IsUndefined();
}
bool IsDefined(const Value& value) { return !value.IsUndefined(); }
bool IsUndefinedValue(const Value& value) { return value.IsUndefined(); }
bool IsNoneValue(const Value& value) { return value.IsNone(); }
bool IsBoolean(const Value& value) { return value.IsBool(); }
bool IsTrue(const Value& value) { return value.IsBool() && value.Truth(); }
bool IsFalse(const Value& value) { return value.IsBool() && !value.Truth(); }
bool IsInteger(const Value& value) { return value.Is<Int>(); }
bool IsFloat(const Value& value) { return value.Is<double>(); }
bool IsNumber(const Value& value) { return value.IsNumber(); }
bool IsString(const Value& value) { return value.AsText() != nullptr; }
bool IsMapping(const Value& value) { return value.AsDict() != nullptr; }
// Undefined has a __call__ (that fails).
bool IsCallable(const Value& value) { return value.AsCallable() || value.IsUndefined(); }
bool Never(const Value&) { return false; }

constexpr Test kTests[] = {
    // clang-format off
    {"boolean", Ask<IsBoolean>},          {"callable", Ask<IsCallable>},
    {"defined", Ask<IsDefined>},          {"divisibleby", DivisibleBy},
    {"escaped", Ask<Never>},              {"even", Parity<0>},
    {"false", Ask<IsFalse>},              {"filter", Exists<FindFilter>},
    {"float", Ask<IsFloat>},              {"in", CompareTest<CompareOp::kIn>},
    {"integer", Ask<IsInteger>},          {"iterable", Ask<IsIterable>},
    {"lower", HasCase<false>},            {"mapping", Ask<IsMapping>},
    {"none", Ask<IsNoneValue>},           {"number", Ask<IsNumber>},
    {"odd", Parity<1>},                   {"sameas", SameAs},
    {"sequence", Ask<IsSequence>},        {"string", Ask<IsString>},
    {"test", Exists<FindTest>},           {"true", Ask<IsTrue>},
    {"undefined", Ask<IsUndefinedValue>}, {"upper", HasCase<true>},
    {"==", CompareTest<CompareOp::kEqual>},         {"eq", CompareTest<CompareOp::kEqual>},
    {"equalto", CompareTest<CompareOp::kEqual>},    {"!=", CompareTest<CompareOp::kNotEqual>},
    {"ne", CompareTest<CompareOp::kNotEqual>},      {"<", CompareTest<CompareOp::kLess>},
    {"lt", CompareTest<CompareOp::kLess>},          {"lessthan", CompareTest<CompareOp::kLess>},
    {"<=", CompareTest<CompareOp::kLessEqual>},     {"le", CompareTest<CompareOp::kLessEqual>},
    {">", CompareTest<CompareOp::kGreater>},        {"gt", CompareTest<CompareOp::kGreater>},
    {"greaterthan", CompareTest<CompareOp::kGreater>},
    {">=", CompareTest<CompareOp::kGreaterEqual>},  {"ge", CompareTest<CompareOp::kGreaterEqual>},
    // clang-format on
};

}  // namespace

const Test* FindTest(std::string_view name) {
  const auto* row = std::find_if(std::begin(kTests), std::end(kTests),
                                 [name](const Test& test) { return test.name == name; });
  return row == std::end(kTests) ? nullptr : row;
}

}  // namespace sluice::jinja
