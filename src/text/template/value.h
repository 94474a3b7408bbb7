// The values of the template language: Python's, as far as a template can see them. All are
// immutable except namespaces; containers are shared, never copied. A value can not contain itself:
// only a namespace can close a cycle, and the interpreter owns the namespaces.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "text/template/traced_text.h"

namespace sluice::jinja {

/// Wide enough for every integer in JSON (int64 and uint64) and for what templates count. Python's
/// are unlimited: arithmetic that leaves 128 bits is an error.
using Int = __int128;

struct Value;
struct List;
class Dict;
struct Namespace;
struct Loop;
struct Callable;
using ListPtr = std::shared_ptr<const List>;
using DictPtr = std::shared_ptr<const Dict>;

/// What a missing name or attribute gives: prints as nothing, iterates as empty, everything else is
/// an error that says the hint.
struct UndefinedValue {
  std::shared_ptr<const std::string> hint;
};
struct NoneValue {};

struct Value {
  using Data = std::variant<UndefinedValue, NoneValue, bool, Int, double, TextPtr, ListPtr, DictPtr,
                            std::shared_ptr<Namespace>, std::shared_ptr<Loop>,
                            std::shared_ptr<const Callable>>;
  Data data;

  Value() = default;
  Value(NoneValue none) : data(none) {}  // NOLINT: implicit
  explicit Value(bool b) : data(b) {}
  explicit Value(Int i) : data(i) {}
  explicit Value(double d) : data(d) {}
  Value(TextPtr text) : data(std::move(text)) {}                          // NOLINT: implicit
  Value(ListPtr list) : data(std::move(list)) {}                          // NOLINT: implicit
  Value(DictPtr dict) : data(std::move(dict)) {}                          // NOLINT: implicit
  Value(std::shared_ptr<Namespace> space) : data(std::move(space)) {}     // NOLINT: implicit
  Value(std::shared_ptr<Loop> loop) : data(std::move(loop)) {}            // NOLINT: implicit
  Value(std::shared_ptr<const Callable> call) : data(std::move(call)) {}  // NOLINT: implicit
  static Value Undefined(std::string hint);
  /// Text that the template wrote, for names and constants of the language.
  static Value Trusted(std::string_view text);

  template <class T>
  bool Is() const {
    return std::holds_alternative<T>(data);
  }
  bool IsUndefined() const { return Is<UndefinedValue>(); }
  bool IsNone() const { return Is<NoneValue>(); }
  bool IsBool() const { return Is<bool>(); }

  // The thing itself, or null where the value is something else.
  const TracedText* AsText() const;
  const List* AsList() const;
  const Dict* AsDict() const;
  Namespace* AsNamespace() const;
  Loop* AsLoop() const;
  const Callable* AsCallable() const;
  /// Integers and, as in Python, booleans.
  const Int* AsInt(Int& storage) const;
  /// Any number.
  bool AsDouble(double& number) const;
  bool IsNumber() const { return Is<Int>() || Is<double>() || Is<bool>(); }

  /// Python's truth.
  bool Truth() const;
  /// May be asked for in a dictionary (Python's hash); tuples by what is directly in them.
  bool IsHashable() const;
  /// Levels of containers, 0 for anything flat.
  int Depth() const;
  /// Python's name of the type, for messages.
  std::string_view TypeName() const;
};

/// Python has many sequences; templates can tell these apart.
enum class ListKind { kList, kTuple, kRange, kKeys, kValues, kItems, kGenerator };

struct List {
  std::vector<Value> items;
  ListKind kind = ListKind::kList;
  int depth = 1;
  /// A generator gives each item once; this many are gone.
  mutable size_t consumed = 0;
};

/// An ordered map. Keys are strings, numbers, booleans or none.
class Dict {
 public:
  using Entry = std::pair<Value, Value>;

  /// Adds or replaces. False if the key can not be one (a list, say).
  bool Set(Value key, Value value);
  const Value* Find(const Value& key) const;
  const Value* Find(std::string_view key) const;
  const std::vector<Entry>& entries() const { return entries_; }
  size_t size() const { return entries_.size(); }
  int depth() const { return depth_; }

  /// Equal keys have equal forms (1, 1.0 and true are equal); false for what can not be a key.
  static bool KeyForm(const Value& key, std::string& form);

 private:
  size_t Position(const Value& key) const;  // entries_.size() if absent
  std::vector<Entry> entries_;
  // Small dictionaries are searched in order; larger ones by key form.
  static constexpr size_t kIndexFrom = 12;
  std::unordered_map<std::string, size_t> index_;
  int depth_ = 1;
};

/// namespace(...): the one thing a template can change.
struct Namespace {
  std::map<std::string, Value, std::less<>> attributes;
};

/// The variable `loop`.
struct Loop {
  ListPtr items;
  size_t index = 0;
  bool over = false;  // the loop has ended, the variable lives on
  std::vector<Value> last_changed;
  bool has_changed = false;
};

/// A list (or tuple, ...) of `items`; pays for it. Errors: nesting over Budget::kValueDepthMax.
Result<Value> MakeList(std::vector<Value> items, Budget& budget, ListKind kind = ListKind::kList);
Result<Value> MakeDict(Dict dict, Budget& budget);

}  // namespace sluice::jinja
