#include "checkpoint/module_names.h"

#include <re2/re2.h>

#include <unordered_set>

#include "base/status.h"

namespace sluice {
namespace {

constexpr std::string_view kExpression = "re:";
constexpr int64_t kExpressionMemory = 1 << 20;  // of the compiled program and its cached states

RE2::Options ExpressionOptions() {
  RE2::Options options;
  options.set_log_errors(false);
  options.set_never_capture(true);
  options.set_max_mem(kExpressionMemory);
  return options;
}

}  // namespace

struct ModuleNames::State {
  std::vector<std::string> entries;
  std::unordered_set<std::string_view> names;  // into entries
  std::unique_ptr<RE2> expression;             // all expressions as alternatives; null without any
  std::vector<std::string> unused;
};

ModuleNames::ModuleNames(const std::vector<std::string>& entries) {
  auto state = std::make_shared<State>();
  state->entries = entries;
  std::string together;
  size_t count = 0;
  for (const std::string& entry : state->entries) {
    if (!entry.starts_with(kExpression)) {
      if (!entry.empty()) state->names.insert(entry);
      continue;
    }
    const std::string_view pattern = std::string_view(entry).substr(kExpression.size());
    std::string reason;
    if (++count > kModuleExpressionsMax)
      reason = fmt::format("more than {} expressions", kModuleExpressionsMax);
    else if (together.size() + pattern.size() > kModuleExpressionBytesMax)
      reason = fmt::format("more than {} bytes of expressions", kModuleExpressionBytesMax);
    else if (const RE2 alone(pattern, ExpressionOptions()); !alone.ok())
      reason = Quoted(alone.error());
    if (reason.empty())
      together += fmt::format("{}(?:{})", together.empty() ? "" : "|", pattern);
    else if (state->unused.size() < kModuleExpressionsMax)
      state->unused.push_back(fmt::format("{}: {}", Quoted(entry), reason));
  }
  if (!together.empty()) {
    state->expression = std::make_unique<RE2>(together, ExpressionOptions());
    if (!state->expression->ok()) {  // together they may be too large
      state->unused.push_back("all expressions together: " + Quoted(state->expression->error()));
      state->expression.reset();
    }
  }
  state_ = std::move(state);
}

bool ModuleNames::empty() const { return state_->entries.empty(); }

std::span<const std::string> ModuleNames::unused() const { return state_->unused; }

bool ModuleNames::operator==(const ModuleNames& other) const {
  return state_->entries == other.state_->entries;
}

bool ModuleNames::Match(std::string_view module) const {
  // Every run of whole path components: "a.b.c" is inside "a.b", and ends with "b.c".
  if (!state_->names.empty())
    for (size_t begin = 0; begin != module.npos && begin < module.size();) {
      for (size_t end = begin; end < module.size();) {
        end = std::min(module.find('.', end + 1), module.size());
        if (state_->names.contains(module.substr(begin, end - begin))) return true;
      }
      const size_t dot = module.find('.', begin);
      begin = dot == module.npos ? dot : dot + 1;
    }
  return state_->expression &&
         state_->expression->Match(module, 0, module.size(), RE2::ANCHOR_START, nullptr, 0);
}

}  // namespace sluice
