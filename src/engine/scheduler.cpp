#include "engine/scheduler.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/units.h"

namespace sluice {
namespace {

// SGLang's figures: a request is first taken to use 70 % of the new tokens that it allows, and 14 %
// of that after 600 decode steps without a retract.
constexpr double kRatioStart = 0.7;
constexpr double kRatioFloor = kRatioStart * 0.14;
constexpr double kRatioDecay = (kRatioStart - kRatioFloor) / 600;
constexpr int64_t kFutureTokensMax = 4096;  // counted of one request's new tokens
constexpr int64_t kRetractLookahead = 20;   // decode steps that a retract makes room for

int64_t PagesFor(int64_t tokens) { return CeilDiv(tokens, kPageTokens); }

}  // namespace

int64_t SchedulerLimits::StepRows(int64_t context) const {
  const int64_t prefill =
      chunk_tokens > 0 ? std::min(chunk_tokens, prefill_tokens) : std::max(prefill_tokens, context);
  return std::min(prefill, running_requests * context) + running_requests;
}

Scheduler::Scheduler(const SchedulerLimits& limits, KvPagePool& kv, RecurrentPool& recurrent)
    : limits_(limits), kv_(kv), recurrent_(recurrent), ratio_(kRatioStart) {
  CHECK_GE(limits.running_requests, 1);
  CHECK_GE(limits.prefill_tokens, 1);
  CHECK_GE(kv.page_count(), 1);
  CHECK_GE(recurrent.slot_count(), 1);
}

void Scheduler::Add(std::unique_ptr<Request> request) {
  CHECK(waiting_.empty() || waiting_.back()->in.key < request->in.key);
  if (waiting_.empty() && running_.empty()) ratio_ = kRatioStart;  // was idle
  waiting_.push_back(std::move(request));
}

const StepPlan& Scheduler::Plan() {
  plan_.items.clear();
  plan_.too_large.clear();
  plan_.decode_tokens = plan_.prefill_tokens = plan_.prefill_requests = plan_.retracted = 0;
  plan_.steps = 1;
  ++steps_;
  RetractForTests();
  MakeRoomForDecode();
  PlanDecode();   // running requests keep their pace...
  PlanPrefill();  // ...and prompts have a budget of their own
  PlanRun();
  CheckLedger();
  CHECK(!plan_.items.empty() || !plan_.too_large.empty() || (running_.empty() && waiting_.empty()));
  return plan_;
}

std::unique_ptr<Request> Scheduler::Remove(Request* request, bool clear) {
  const auto is_it = [&](const std::unique_ptr<Request>& r) { return r.get() == request; };
  std::unique_ptr<Request> out;
  if (const auto at = std::ranges::find_if(running_, is_it); at != running_.end()) {
    Release(**at, clear);
    out = std::move(*at);
    running_.erase(at);
  } else {
    const auto in_queue = std::ranges::find_if(waiting_, is_it);
    CHECK(in_queue != waiting_.end());
    out = std::move(*in_queue);
    waiting_.erase(in_queue);
  }
  return out;
}

Request* Scheduler::Find(uint64_t key) {
  for (const auto& r : running_)
    if (r->in.key == key) return r.get();
  for (const auto& r : waiting_)
    if (r->in.key == key) return r.get();
  return nullptr;
}

Request* Scheduler::Overdue(double now) {
  for (const auto& request : waiting_) {
    if (request->admitted_before) continue;  // retracted: it has been promised an end
    const double by = request->in.admit_by_seconds;
    if (by > 0 && by < now) return request.get();
  }
  return nullptr;
}

Request* Scheduler::Any() {
  if (!running_.empty()) return running_.front().get();
  return waiting_.empty() ? nullptr : waiting_.front().get();
}

void Scheduler::CheckLedger() const {
  int64_t pages = 0;
  for (const auto& r : running_) {
    pages += static_cast<int64_t>(r->pages.size());
    CHECK_GE(r->slot, 0);
  }
  CHECK_EQ(pages, pages_used());
  CHECK_EQ(running(), slots_used());
}

// --- memory ---

int64_t Scheduler::PagesLacking(const Request& request, int64_t tokens) const {
  return std::max<int64_t>(PagesFor(tokens) - static_cast<int64_t>(request.pages.size()), 0);
}

int64_t Scheduler::PagesLackingForAll(int64_t more_tokens) const {
  int64_t pages = 0;
  for (const auto& r : running_) pages += PagesLacking(*r, r->token_count() + more_tokens);
  return pages;
}

void Scheduler::GrowPages(Request& request, int64_t tokens) {
  for (int64_t lacking = PagesLacking(request, tokens); lacking > 0; --lacking) {
    const int32_t page = kv_.Allocate();
    CHECK_GE(page, 0);
    request.pages.push_back(page);
  }
}

void Scheduler::Release(Request& request, bool clear) {
  for (const int32_t page : request.pages) {
    if (clear) kv_.Clear(page);
    kv_.Free(page);
  }
  request.pages.clear();
  if (clear) recurrent_.Clear(request.slot);
  recurrent_.Free(request.slot);
  request.slot = -1;
}

// Fewest generated tokens first, then the longest prompt, then the newest: the least work is lost,
// and whoever is furthest always goes on, so everyone ends. With `only_advanced`, of those that
// have generated something since they were admitted.
Request* Scheduler::Victim(bool only_advanced) const {
  Request* victim = nullptr;
  for (const auto& r : running_) {
    if (only_advanced && r->generated() == r->generated_at_admission) continue;
    if (victim == nullptr || r->generated() < victim->generated() ||
        (r->generated() == victim->generated() &&
         (r->prompt_length() > victim->prompt_length() ||
          (r->prompt_length() == victim->prompt_length() && r->in.key > victim->in.key))))
      victim = r.get();
  }
  return victim;
}

void Scheduler::Retract(Request* victim) {
  std::unique_ptr<Request> request = Remove(victim);
  request->computed = 0;
  const auto behind = std::ranges::find_if(
      waiting_, [&](const auto& other) { return other->in.key > request->in.key; });
  waiting_.insert(behind, std::move(request));
  ++plan_.retracted;
}

void Scheduler::RetractForTests() {
  if (limits_.retract_interval <= 0 || steps_ % limits_.retract_interval != 0) return;
  if (Request* victim = Victim(true)) Retract(victim);
}

void Scheduler::MakeRoomForDecode() {
  if (PagesLackingForAll(0) <= kv_.free_count()) {
    for (const auto& r : running_) GrowPages(*r, r->token_count());
    return;
  }
  while (running_.size() > 1) {
    Retract(Victim(false));
    if (PagesLackingForAll(kRetractLookahead) <= kv_.free_count()) break;
  }
  int64_t generated = 0, allowed = 0;
  for (const auto& r : running_) {
    generated += r->generated();
    allowed += r->new_tokens_max();
  }
  ratio_ = std::min(1.0, static_cast<double>(generated + kRetractLookahead * running()) /
                             static_cast<double>(allowed + 1));
  if (PagesLackingForAll(0) > kv_.free_count()) {  // the last one, alone
    plan_.too_large.push_back(running_.front().get());
    return;
  }
  for (const auto& r : running_) GrowPages(*r, r->token_count());
}

// --- the step ---

void Scheduler::Decay() { ratio_ = std::max(kRatioFloor, ratio_ - kRatioDecay); }

void Scheduler::PlanDecode() {
  if (!plan_.too_large.empty()) return;
  for (const auto& r : running_)
    if (r->is_decoding()) {
      plan_.items.push_back({r.get(), 1, true});
      ++plan_.decode_tokens;
    }
  if (plan_.decode_tokens > 0) Decay();
}

void Scheduler::PlanPrefill() {
  if (!plan_.too_large.empty()) return;  // the next step, when it is gone
  prefill_left_ = limits_.chunk_tokens > 0 ? std::min(limits_.chunk_tokens, limits_.prefill_tokens)
                                           : limits_.prefill_tokens;
  for (const auto& r : running_) {  // a prompt that was cut goes on first
    if (r->is_decoding()) continue;
    const int64_t tokens = ChunkFor(*r);
    if (tokens == 0) return;
    AddPrefill(*r, tokens);
  }
  Admit();
}

// Several steps at once where nothing but decoding is to be done. Nobody who waits could start
// earlier than the first end that is known.
void Scheduler::PlanRun() {
  if (limits_.run_steps <= 1 || limits_.retract_interval > 0) return;
  if (plan_.items.empty() || plan_.prefill_tokens > 0 || !plan_.too_large.empty()) return;
  const auto left = [](const auto& r) { return r->new_tokens_max() - r->generated(); };
  int64_t longest = left(running_.front()), shortest = longest;
  for (const auto& r : running_) {
    longest = std::max(longest, left(r));
    shortest = std::min(shortest, left(r));
  }
  const int64_t steps = std::min(limits_.run_steps, waiting_.empty() ? longest : shortest);
  int64_t lacking = 0;
  for (const auto& r : running_)
    lacking += PagesLacking(*r, r->token_count() + std::min(steps, left(r)) - 1);
  if (steps <= 1 || lacking > kv_.free_count()) return;
  for (const auto& r : running_) GrowPages(*r, r->token_count() + std::min(steps, left(r)) - 1);
  plan_.steps = steps;
}

// What the step's budget leaves for this request; 0: it waits. A cut at a multiple of the page
// keeps chunks on the block grid; where the chunk itself is odd (tests), the cut is too.
int64_t Scheduler::ChunkFor(const Request& request) const {
  const int64_t remaining = request.remaining();
  if (remaining <= prefill_left_) return remaining;
  if (limits_.chunk_tokens <= 0) return plan_.prefill_tokens == 0 ? remaining : 0;
  if (limits_.chunk_tokens % kPageTokens != 0) return prefill_left_;
  const int64_t end = request.computed + prefill_left_;
  const int64_t aligned = end / kPageTokens * kPageTokens - request.computed;
  if (aligned > 0) return aligned;
  return plan_.prefill_tokens == 0 ? prefill_left_ : 0;
}

void Scheduler::AddPrefill(Request& request, int64_t tokens) {
  plan_.items.push_back({&request, tokens, tokens == request.remaining()});
  plan_.prefill_tokens += tokens;
  ++plan_.prefill_requests;
  // Behind a prompt that was cut nobody starts, even if the cut left something of the budget.
  prefill_left_ = tokens < request.remaining() ? 0 : std::max<int64_t>(prefill_left_ - tokens, 0);
}

void Scheduler::Admit() {
  while (!waiting_.empty() && prefill_left_ > 0 && running() < limits_.running_requests &&
         recurrent_.free_count() > 0) {
    Request& head = *waiting_.front();
    if (PagesFor(head.token_count()) > kv_.page_count()) {
      plan_.too_large.push_back(&head);
      return;
    }
    const int64_t tokens = ChunkFor(head);
    if (tokens == 0 || !FitsWithFutures(head)) return;
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
    head.slot = recurrent_.Allocate();
    head.generated_at_admission = head.generated();
    GrowPages(head, head.token_count());
    AddPrefill(head, tokens);
  }
}

// Tokens that a request is taken to generate from here on.
int64_t Scheduler::FutureTokens(const Request& request) const {
  const int64_t left = std::max<int64_t>(request.new_tokens_max() - request.generated(), 0);
  if (request.in.sampling.ignore_eos) return left;
  return static_cast<int64_t>(
      std::ceil(static_cast<double>(std::min(left, kFutureTokensMax)) * ratio_));
}

// Requests that ignore EOS have a known end, so their pages are followed through time: when one
// ends, its pages are free for the others. What the rest may need is set aside throughout.
bool Scheduler::FitsWithFutures(const Request& candidate) const {
  int64_t free = kv_.free_count() - PagesLacking(candidate, candidate.token_count());
  if (free < 0) return false;
  if (running_.empty()) return true;

  struct Known {
    int64_t left, tokens, pages;
  };
  std::vector<Known> known;
  const auto account = [&](const Request& r, int64_t pages) {
    const int64_t left = FutureTokens(r);
    if (r.in.sampling.ignore_eos)
      known.push_back({left, r.token_count(), pages});
    else
      free -= std::max<int64_t>(PagesFor(r.token_count() + left) - pages, 0);
  };
  for (const auto& r : running_) account(*r, static_cast<int64_t>(r->pages.size()));
  account(candidate, PagesFor(candidate.token_count()));
  if (free < 0) return false;

  std::ranges::sort(known, {}, &Known::left);
  int64_t given_back = 0;
  for (size_t i = 0; i < known.size(); ++i) {
    int64_t growth = 0;  // of all that still run when request i ends
    for (size_t j = i; j < known.size(); ++j)
      growth += std::max<int64_t>(PagesFor(known[j].tokens + known[i].left) - known[j].pages, 0);
    if (growth > free + given_back) return false;
    given_back += known[i].pages;
  }
  return true;
}

}  // namespace sluice
