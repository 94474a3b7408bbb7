// The filters, tests, globals and methods of the language: each one row in a table. A template that
// names another filter or test is refused when it is parsed; another method, when it is called.
#pragma once

#include <span>
#include <string_view>

#include "text/template/callable.h"

namespace sluice::jinja {

struct Filter {
  std::string_view name;
  Result<Value> (*run)(Interpreter& interpreter, const Value& input, const Arguments& args);
};

struct Test {
  std::string_view name;
  Result<bool> (*run)(Interpreter& interpreter, const Value& input, const Arguments& args);
};

struct Method {
  std::string_view name;
  Callable::Function function;  // null: Python has it, we refuse it by name
};

/// Null if there is no such thing.
const Filter* FindFilter(std::string_view name);
const Test* FindTest(std::string_view name);
/// range, namespace, dict, raise_exception, strftime_now; null for anything else.
const Method* FindGlobal(std::string_view name);
/// What Python's getattr would find on a text, a list or a dictionary. Methods that change their
/// object are not there: the language is sandboxed.
const Method* FindMethod(const Value& object, std::string_view name);

// The tables, one file each; the names in a table are sorted by nothing.
std::span<const Filter> TextFilters();      // text_filters.cpp
std::span<const Filter> SequenceFilters();  // sequence_filters.cpp
std::span<const Filter> NumberFilters();    // number_filters.cpp
std::span<const Method> TextMethods();      // text_methods.cpp

/// The `attribute` argument of filters: "a.b.0", or an integer, or nothing (the item itself).
class AttributePath {
 public:
  static Result<AttributePath> Parse(const Value* attribute);
  /// What the path leads to. `otherwise` stands for what is undefined on the way, if not null.
  Result<Value> Get(Interpreter& run, const Value& item, const Value* otherwise) const;

 private:
  std::vector<Value> parts_;
};

// Text operations that filters and methods share; the input is a text.
Result<Value> StripText(const TracedText& text, const Value* chars, bool left, bool right,
                        Budget& budget);
Result<Value> ReplaceText(const TracedText& text, const TracedText& from, const TracedText& to,
                          Int count, Budget& budget);
Result<Value> SplitLines(const TracedText& text, bool keep_ends, Budget& budget);
enum class Case { kUpper, kLower, kCapitalize, kTitle, kJinjaTitle };
Result<Value> ChangeCase(const TracedText& text, Case to, Budget& budget);
/// Spaces (or `fill`) around a text of fewer than `width` characters: left, right or both.
enum class Side { kLeft, kRight, kBoth };
Result<Value> Justify(const TracedText& text, Int width, const TracedText& fill, Side text_side,
                      Budget& budget);

}  // namespace sluice::jinja
