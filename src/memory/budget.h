// How many tokens, states and requests fit: the memory that weights and scratch leave, divided
// between KV pages and recurrent states.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "memory/cache_layout.h"

namespace sluice {

/// Requests that run at once when nobody says how many: every one of them adds a row to a decode
/// step, and past this many rows a step's matrix products are limited by arithmetic on a CPU.
inline constexpr int64_t kRunningRequestsDefault = 256;

struct BudgetInput {
  uint64_t limit_bytes = 0;         // of the machine or its cgroup
  double static_fraction = 0.88;    // share for weights, scratch and pools
  double state_memory_ratio = 0.9;  // r: states get r / (1 + r) of what is left
  uint64_t weight_bytes = 0;
  uint64_t scratch_bytes = 0;
  CacheLayout layout;
  int64_t context_length = 0;            // wanted, >= 1
  bool context_is_explicit = false;      // asked for by the user: may not be reduced
  int64_t max_running_requests = 0;      // 0: derived; an upper bound
  int64_t max_recurrent_state_size = 0;  // 0: derived; exact
  int64_t max_total_tokens = 0;          // 0: derived; rounded down to pages, at least one
};

struct Budget {
  int64_t context_length = 0;  // what one request may reach
  int64_t context_wanted = 0;  // larger if it was reduced
  int64_t running_requests = 0;
  int64_t state_slots = 0;
  int64_t kv_pages = 0;
  int64_t max_total_tokens() const { return kv_pages * kPageTokens; }

  uint64_t static_bytes = 0;  // limit * fraction
  uint64_t weight_bytes = 0, scratch_bytes = 0, kv_bytes = 0, state_bytes = 0;
};

/// Small models do not take what they cannot use: KV for at most running requests * context, one
/// state a running request. Where one request at the full context would not fit, states give way
/// first, then a context that nobody asked for.
/// Errors: kOutOfMemory with every figure and what to change; kInvalidArgument for impossible
/// fractions.
Result<Budget> PlanMemory(const BudgetInput& input);

/// The table of bytes, several lines: weights, scratch, KV (tokens), states with their block
/// buffers (requests).
std::string MemoryTable(const Budget& budget, const CacheLayout& layout);

}  // namespace sluice
