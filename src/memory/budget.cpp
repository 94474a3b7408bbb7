#include "memory/budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/units.h"

namespace sluice {
namespace {

// A context is not cut below this: a server that answers nothing but short prompts misleads.
constexpr int64_t kReducedContextMin = 1024;

// bytes / unit, without limit where the unit costs nothing.
int64_t HowMany(int64_t bytes, int64_t unit_bytes) {
  return unit_bytes == 0 ? std::numeric_limits<int64_t>::max()
                         : std::max<int64_t>(bytes, 0) / unit_bytes;
}

Status CheckFractions(const BudgetInput& input) {
  if (!(input.static_fraction > 0 && input.static_fraction <= 1))
    return ParamError(Code::kInvalidArgument, "mem-fraction-static",
                      "mem-fraction-static is {}, allowed is (0, 1]", input.static_fraction);
  if (!(input.state_memory_ratio > 0 && input.state_memory_ratio <= 1000))
    return ParamError(Code::kInvalidArgument, "recurrent-state-memory-ratio",
                      "recurrent-state-memory-ratio is {}, allowed is (0, 1000]",
                      input.state_memory_ratio);
  return {};
}

class Planner {
 public:
  explicit Planner(const BudgetInput& input)
      : in_(input),
        slot_bytes_(input.layout.SlotBytes()),
        page_bytes_(input.layout.PageBytes()),
        wanted_running_(input.max_running_requests > 0 ? input.max_running_requests
                                                       : kRunningRequestsDefault) {
    out_.static_bytes =
        static_cast<uint64_t>(static_cast<double>(in_.limit_bytes) * in_.static_fraction);
    out_.weight_bytes = in_.weight_bytes;
    out_.scratch_bytes = in_.scratch_bytes;
    out_.context_length = out_.context_wanted = in_.context_length;
    available_ = static_cast<int64_t>(out_.static_bytes) - static_cast<int64_t>(in_.weight_bytes) -
                 static_cast<int64_t>(in_.scratch_bytes);
  }

  Result<Budget> Plan() {
    if (available_ <= 0) return TooSmall();
    ChooseSlots();
    RETURN_IF_ERROR(ChoosePages());
    out_.running_requests = std::min(wanted_running_, out_.state_slots);
    out_.kv_bytes = out_.kv_pages * page_bytes_;
    out_.state_bytes = out_.state_slots * slot_bytes_;
    return out_;
  }

 private:
  void ChooseSlots() {
    if (in_.max_recurrent_state_size > 0) {
      out_.state_slots = in_.max_recurrent_state_size;
      return;
    }
    const double share = in_.state_memory_ratio / (1 + in_.state_memory_ratio);
    const auto state_budget = static_cast<int64_t>(static_cast<double>(available_) * share);
    out_.state_slots = std::clamp<int64_t>(HowMany(state_budget, slot_bytes_), 1, wanted_running_);
  }

  int64_t PossiblePages() const {
    if (out_.state_slots > HowMany(available_, slot_bytes_)) return 0;
    return HowMany(available_ - out_.state_slots * slot_bytes_, page_bytes_);
  }

  Status ChoosePages() {
    const int64_t request_pages = CeilDiv(in_.context_length, kPageTokens);
    int64_t wanted = std::min(wanted_running_, out_.state_slots) * request_pages;
    if (in_.max_total_tokens > 0) wanted = std::max<int64_t>(in_.max_total_tokens / kPageTokens, 1);
    const int64_t needed = std::min(wanted, request_pages);
    if (PossiblePages() < needed && in_.max_recurrent_state_size == 0) {
      const int64_t left = HowMany(available_ - needed * page_bytes_, slot_bytes_);
      out_.state_slots = std::clamp<int64_t>(left, 1, out_.state_slots);
    }
    out_.kv_pages = std::min(wanted, PossiblePages());
    if (in_.max_total_tokens > 0) return out_.kv_pages < wanted ? TooSmall() : Status();
    if (out_.kv_pages >= needed) return {};
    if (in_.context_is_explicit || out_.kv_pages * kPageTokens < kReducedContextMin)
      return TooSmall();
    out_.context_length = out_.kv_pages * kPageTokens;
    return {};
  }

  // Every figure that decides, and what to change.
  Status TooSmall() const {
    const int64_t tokens = in_.max_total_tokens > 0 ? in_.max_total_tokens : in_.context_length;
    const int64_t slots = std::max<int64_t>(in_.max_recurrent_state_size, 1);
    const double kv = static_cast<double>(CeilDiv(tokens, kPageTokens)) * page_bytes_;
    const double states = static_cast<double>(slots) * slot_bytes_;
    return Error(
        Code::kOutOfMemory,
        "memory: {} (limit {} x mem-fraction-static {}) minus weights {} and scratch {} leaves {}; "
        "needed are {} for {} recurrent state(s) and {} for KV of {} tokens ({}). Lower "
        "--context-length, --max-total-tokens, --max-recurrent-state-size or "
        "--chunked-prefill-size, or raise --mem-fraction-static",
        FormatBytes(out_.static_bytes), FormatBytes(in_.limit_bytes), in_.static_fraction,
        FormatBytes(in_.weight_bytes), FormatBytes(in_.scratch_bytes),
        FormatBytes(std::max<int64_t>(available_, 0)), FormatBytes(static_cast<uint64_t>(states)),
        slots, FormatBytes(static_cast<uint64_t>(kv)), tokens,
        in_.max_total_tokens > 0 ? "max-total-tokens" : "context-length");
  }

  const BudgetInput& in_;
  const int64_t slot_bytes_, page_bytes_;
  const int64_t wanted_running_;
  int64_t available_ = 0;
  Budget out_;
};

}  // namespace

Result<Budget> PlanMemory(const BudgetInput& input) {
  RETURN_IF_ERROR(CheckFractions(input));
  return Planner(input).Plan();
}

std::string MemoryTable(const Budget& budget, const CacheLayout& layout) {
  const uint64_t used =
      budget.weight_bytes + budget.scratch_bytes + budget.kv_bytes + budget.state_bytes;
  const int64_t state = layout.recurrent_layers * layout.StateBytesPerLayer();
  std::string out = "memory\n";
  const auto row = [&](std::string_view name, uint64_t bytes, const std::string& note) {
    out += fmt::format("  {:<9}{:>12}  {}\n", name, FormatBytes(bytes), note);
  };
  row("weights", budget.weight_bytes, "packed");
  row("scratch", budget.scratch_bytes, "of the largest step");
  row("KV", budget.kv_bytes,
      fmt::format("{} tokens, {} B a token", budget.max_total_tokens(),
                  layout.kv_layers * layout.kv_row_bytes));
  if (layout.recurrent_layers > 0)
    row("states", budget.state_bytes,
        fmt::format("{} requests, {} each: state {}, block buffers {}", budget.state_slots,
                    FormatBytes(layout.SlotBytes()), FormatBytes(state),
                    FormatBytes(layout.SlotBytes() - state)));
  row("sum", used,
      fmt::format("of {} (mem-fraction-static); context {}, {} running requests",
                  FormatBytes(budget.static_bytes), budget.context_length,
                  budget.running_requests));
  out.pop_back();
  return out;
}

}  // namespace sluice
