// Lists of modules as quantisation configs write them: names, ends of names and expressions.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

/// Of expressions: their number, and the bytes of all together. What is longer is not used.
constexpr size_t kModuleExpressionsMax = 256;
constexpr size_t kModuleExpressionBytesMax = 16 << 10;

/// Matches "model.layers.3.mlp.gate" against a list. An entry stands for the module of its name,
/// for every module whose path ends with "." and the entry, and for all modules inside such a one;
/// an entry "re:..." is an expression that must match from the start of the path (Python's
/// re.match, as compressed-tensors uses it). Expressions run in time linear in the path (RE2),
/// whatever they are; those that RE2 does not know (look-ahead, back references) match nothing and
/// are listed in unused(). Immutable and thread-safe; copies share.
class ModuleNames {
 public:
  ModuleNames() : ModuleNames(std::vector<std::string>()) {}
  explicit ModuleNames(const std::vector<std::string>& entries);

  bool Match(std::string_view module) const;
  bool empty() const;

  /// Expressions that could not be used, each with the reason, made printable.
  std::span<const std::string> unused() const;

  /// Whether the entries are the same, in the same order.
  bool operator==(const ModuleNames& other) const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

}  // namespace sluice
