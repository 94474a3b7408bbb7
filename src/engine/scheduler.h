// Which requests run in a step, and how many tokens of each. Decisions only: no clock, no random
// source, no device work; the same calls give the same plans.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "engine/request.h"
#include "memory/pools.h"

namespace sluice {

struct SchedulerLimits {
  int64_t running_requests = 1;
  int64_t chunk_tokens = 4096;     // prompt tokens a step; <= 0: a prompt is never cut
  int64_t prefill_tokens = 16384;  // prompt tokens a step; one uncut prompt may exceed it
  int64_t retract_interval = 0;    // > 0: retract one request every so many steps (tests)
  int64_t run_steps = 1;           // decode steps planned at once, at most

  /// Rows of the largest step, for prompts of at most `context` tokens.
  int64_t StepRows(int64_t context) const;
};

/// One request's share of a step: tokens [computed, computed + token_count).
struct StepItem {
  Request* request;
  int64_t token_count;
  bool is_last;  // reaches the last known token: its logits choose the next
};

struct StepPlan {
  std::vector<StepItem> items;      // decoding requests first, then prompts
  std::vector<Request*> too_large;  // abort these: alone, they need more pages than exist
  int64_t steps = 1;                // how often decode items may run, a token each; > 1: no prompts
  int64_t decode_tokens = 0;
  int64_t prefill_tokens = 0;
  int64_t prefill_requests = 0;
  int64_t retracted = 0;
};

/// First come, first served, without bypass. Admission needs a slot, pages for every known token
/// and an estimate of what everyone running will still write; if that estimate was too low,
/// requests with the fewest generated tokens are retracted and wait in front of the queue, keeping
/// their tokens. Owns the requests; allocates and frees pages and slots.
class Scheduler {
 public:
  /// The pools outlive the scheduler.
  Scheduler(const SchedulerLimits& limits, KvPagePool& kv, RecurrentPool& recurrent);

  /// Takes a request whose key is larger than all before.
  void Add(std::unique_ptr<Request> request);

  /// The next step, valid until the next call. Never empty while there are requests:
  /// items or too_large has an entry. The caller runs the items, advances `computed`, appends new
  /// tokens, and removes what is finished or too large. There are pages for all of `steps`; the
  /// caller may run fewer.
  const StepPlan& Plan();

  /// Frees what the request owns and hands it over; `clear` zeroes the memory first.
  std::unique_ptr<Request> Remove(Request* request, bool clear = false);

  /// Null if there is none.
  Request* Find(uint64_t key);
  /// A request that was to be admitted before `now` and never was, or null.
  Request* Overdue(double now);
  /// Any live request, or null.
  Request* Any();

  int64_t running() const { return static_cast<int64_t>(running_.size()); }
  int64_t waiting() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t pages_used() const { return kv_.page_count() - kv_.free_count(); }
  int64_t slots_used() const { return recurrent_.slot_count() - recurrent_.free_count(); }
  double new_token_ratio() const { return ratio_; }
  const SchedulerLimits& limits() const { return limits_; }

  /// CHECKs that pages and slots in use are exactly those that running requests own.
  void CheckLedger() const;

 private:
  // Pages that a request with `tokens` tokens still lacks.
  int64_t PagesLacking(const Request& request, int64_t tokens) const;
  int64_t PagesLackingForAll(int64_t more_tokens) const;

  void RetractForTests();
  void MakeRoomForDecode();
  Request* Victim(bool only_advanced) const;
  void Retract(Request* victim);
  void Release(Request& request, bool clear);
  void GrowPages(Request& request, int64_t tokens);

  void PlanDecode();
  void PlanPrefill();
  void PlanRun();
  void Admit();
  bool FitsWithFutures(const Request& candidate) const;
  int64_t FutureTokens(const Request& request) const;
  int64_t ChunkFor(const Request& request) const;
  void AddPrefill(Request& request, int64_t tokens);
  void Decay();

  const SchedulerLimits limits_;
  KvPagePool& kv_;
  RecurrentPool& recurrent_;
  std::deque<std::unique_ptr<Request>> waiting_;   // by key, so retracted ones are in front
  std::vector<std::unique_ptr<Request>> running_;  // in order of admission
  StepPlan plan_;
  int64_t prefill_left_ = 0;  // of this step's budget
  double ratio_;              // share of the allowed new tokens that requests are taken to use
  int64_t steps_ = 0;
};

}  // namespace sluice
