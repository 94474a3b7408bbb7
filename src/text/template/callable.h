// Things that a template can call: macros, globals and methods of values; and how arguments reach
// them.
#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/template/value.h"

namespace sluice::jinja {

class Interpreter;
struct MacroBody;
struct Scope;

/// Evaluated arguments of a call.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

/// Arguments sorted into parameters, whose `names` are in Python's order. Get() is null where
/// nothing was given. Lives no longer than the arguments.
class BoundArguments {
 public:
  /// Errors: too many, unknown, twice, one of the first `required` missing.
  static Result<BoundArguments> Bind(const Arguments& args,
                                     std::initializer_list<std::string_view> names,
                                     size_t required = 0);

  const Value* Get(size_t parameter) const { return values_[parameter]; }
  /// Null also for an explicit none.
  const Value* GetUnlessNone(size_t parameter) const;
  bool Truth(size_t parameter, bool otherwise) const;
  // Errors name the parameter and the type found.
  Result<Int> GetInt(size_t parameter, Int otherwise) const;
  /// The text itself; null where nothing (or none) was given.
  Result<const TracedText*> GetText(size_t parameter) const;

 private:
  std::vector<std::string_view> names_;
  std::vector<const Value*> values_;
};

struct Callable {
  /// Globals and methods: called with `receiver` (undefined for globals).
  using Function = Result<Value> (*)(Interpreter&, const Value& receiver, const Arguments&);
  Function function = nullptr;
  Value receiver;
  /// Macros and callers: the body, and the scope around its definition. The scope is not kept
  /// alive (a scope holds its macros): calling a macro that outlived it is an error.
  const MacroBody* macro = nullptr;
  std::weak_ptr<Scope> scope;
};

}  // namespace sluice::jinja
