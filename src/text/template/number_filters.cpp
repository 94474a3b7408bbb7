// Filters that make numbers. Source: jinja2/filters.py, version 3.1, and Python's int() and
// float().
#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "text/template/builtins.h"
#include "text/template/interpreter.h"
#include "text/template/operators.h"
#include "text/template/python_text.h"
#include "text/template/unicode.h"

namespace sluice::jinja {
namespace {

std::string_view Stripped(std::string_view text) {
  text = text.substr(0, EndWithoutSpace(text));
  return text.substr(LeadingSpace(text));
}

// Digits without the single underscores that Python allows between them; empty if misplaced.
std::string WithoutUnderscores(std::string_view digits) {
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (digits[i] != '_') {
      out += digits[i];
      continue;
    }
    const bool between = i > 0 && i + 1 < digits.size() &&
                         std::isxdigit(static_cast<unsigned char>(digits[i - 1])) &&
                         std::isxdigit(static_cast<unsigned char>(digits[i + 1]));
    if (!between) return {};
  }
  return out;
}

// Python's int(text, base).
bool ParseInt(std::string_view text, int base, Int& value) {
  text = Stripped(text);
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  const char mark = text.size() > 2 && text[0] == '0' ? static_cast<char>(text[1] | 32) : ' ';
  if ((base == 16 && mark == 'x') || (base == 8 && mark == 'o') || (base == 2 && mark == 'b')) {
    text.remove_prefix(2);
    if (text.starts_with('_')) text.remove_prefix(1);
  }
  const std::string digits = WithoutUnderscores(text);
  if (!ParseDigits(digits, base, value)) return false;
  if (negative) value = -value;
  return true;
}

// Python's float(text).
bool ParseFloat(std::string_view text, double& value) {
  std::string number = WithoutUnderscores(Stripped(text));
  if (number.empty() || number.size() > 4096) return false;
  std::string word = number;
  if (word[0] == '-' || word[0] == '+') word.erase(0, 1);
  for (char& c : word) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  const bool named = word == "inf" || word == "infinity" || word == "nan";
  if (!named && number.find_first_not_of("0123456789+-.eE") != std::string::npos) return false;
  char* end = nullptr;
  value = std::strtod(number.c_str(), &end);
  return end == number.c_str() + number.size();
}

Result<Value> ToInt(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"default", "base"}));
  TRY(const Int base, bound.GetInt(1, 10));
  if (base < 2 || base > 36) return Error(Code::kInvalidArgument, "the base must be 2 to 36");
  if (input.IsUndefined()) return Negate(input, run.budget());  // the error of an undefined value
  const Value otherwise = bound.Get(0) ? *bound.Get(0) : Value(Int{0});
  Int storage;
  if (const Int* i = input.AsInt(storage)) return Value(*i);
  double number;
  if (const TracedText* text = input.AsText()) {
    RETURN_IF_ERROR(run.budget().Work(text->bytes.size()));
    if (ParseInt(text->bytes, static_cast<int>(base), storage)) return Value(storage);
    if (!ParseFloat(text->bytes, number) || !std::isfinite(number)) return otherwise;
  } else if (!input.AsDouble(number) || std::isnan(number)) {
    return otherwise;
  }
  if (std::abs(number) >= 0x1p126)
    return Error(Code::kInvalidArgument, "an integer of more than 128 bits");
  return Value(static_cast<Int>(number));
}

Result<Value> ToFloat(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"default"}));
  if (input.IsUndefined()) return Negate(input, run.budget());
  double number;
  if (input.AsDouble(number)) return Value(number);
  if (const TracedText* text = input.AsText()) {
    RETURN_IF_ERROR(run.budget().Work(text->bytes.size()));
    if (ParseFloat(text->bytes, number)) return Value(number);
  }
  return bound.Get(0) ? *bound.Get(0) : Value(0.0);
}

Result<Value> Abs(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {}));
  (void)bound;
  if (const double* number = std::get_if<double>(&input.data)) return Value(std::abs(*number));
  Int storage;
  const Int* i = input.AsInt(storage);
  if (!i || *i < 0) return Negate(input, run.budget());
  return Value(*i);
}

Result<Value> Round(Interpreter& run, const Value& input, const Arguments& args) {
  TRY(const BoundArguments bound, BoundArguments::Bind(args, {"precision", "method"}));
  TRY(const Int precision, bound.GetInt(0, 0));
  TRY(const TracedText* given, bound.GetText(1));
  const std::string_view method = given ? std::string_view(given->bytes) : "common";
  if (method != "common" && method != "ceil" && method != "floor")
    return Error(Code::kInvalidArgument, "the method must be common, ceil or floor");
  double number;
  if (!input.AsDouble(number)) return Negate(input, run.budget());  // refuses
  if (precision < 0 || precision > 300)
    return Error(Code::kInvalidArgument, "a precision outside of 0 to 300 is not supported");
  Int storage;
  const Int* whole = input.AsInt(storage);
  if (method == "common") {
    if (whole) return Value(*whole);
    if (!std::isfinite(number)) return input;
    char buffer[1024];  // exact decimal digits, rounded half to even, as Python does it
    std::snprintf(buffer, sizeof buffer, "%.*f", static_cast<int>(precision), number);
    return Value(std::strtod(buffer, nullptr));
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = number * scale;
  if (!std::isfinite(scaled))
    return Error(Code::kInvalidArgument, "a number that can not be rounded");
  return Value((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

}  // namespace

std::span<const Filter> NumberFilters() {
  static constexpr Filter kFilters[] = {
      {"abs", Abs}, {"float", ToFloat}, {"int", ToInt}, {"round", Round}};
  return kFilters;
}

}  // namespace sluice::jinja
