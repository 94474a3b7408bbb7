#include "text/template/content_parts.h"

#include <set>

namespace sluice::jinja {
namespace {

class Search {
 public:
  bool In(const Body& body) {
    for (const Statement& statement : body)
      if (std::visit([this](const auto& node) { return Found(node); }, statement.node)) return true;
    return false;
  }

 private:
  bool IsContent(const Expression& expression) const {
    if (const auto* name = std::get_if<NameExpr>(&expression.node))
      return names_.contains(name->name);
    if (const auto* attribute = std::get_if<AttributeExpr>(&expression.node))
      return attribute->name == "content";
    if (const auto* subscript = std::get_if<SubscriptExpr>(&expression.node)) {
      const auto* literal = std::get_if<LiteralExpr>(&subscript->index->node);
      return literal && literal->value.AsText() && literal->value.AsText()->bytes == "content";
    }
    if (const auto* filter = std::get_if<FilterExpr>(&expression.node))
      return filter->input && IsContent(*filter->input);
    return false;
  }

  bool Found(const ForStatement& node) {
    return IsContent(*node.iterable) || In(node.body) || In(node.otherwise);
  }
  bool Found(const IfStatement& node) {
    for (const auto& [condition, body] : node.branches)
      if (In(body)) return true;
    return In(node.otherwise);
  }
  bool Found(const SetStatement& node) {
    if (!node.target.is_tuple && node.target.attribute.empty() && IsContent(*node.value))
      names_.insert(node.target.name);
    return false;
  }
  bool Found(const MacroStatement& node) {
    for (const Parameter& parameter : node.macro.parameters)
      if (parameter.name == "content") names_.insert("content");
    return In(node.macro.body);
  }
  bool Found(const SetBlockStatement& node) { return In(node.body); }
  bool Found(const CallStatement& node) { return In(node.caller.body); }
  bool Found(const FilterStatement& node) { return In(node.body); }
  bool Found(const WithStatement& node) { return In(node.body); }
  bool Found(const TextStatement&) { return false; }
  bool Found(const OutputStatement&) { return false; }
  bool Found(const BreakStatement&) { return false; }
  bool Found(const ContinueStatement&) { return false; }

  std::set<std::string> names_;  // variables that hold a content
};

}  // namespace

bool IteratesContentParts(const Body& body) { return Search().In(body); }

}  // namespace sluice::jinja
