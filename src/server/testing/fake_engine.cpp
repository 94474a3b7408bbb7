#include "server/testing/fake_engine.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <chrono>

#include "base/clock.h"
#include "base/status.h"

namespace sluice {

Result<std::vector<int32_t>> FakeText::EncodePrompt(std::string_view text,
                                                    bool add_special_tokens) const {
  std::vector<int32_t> ids;
  if (text == "+" && add_special_tokens) ids.push_back(kBos);
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

Result<std::vector<int32_t>> FakeText::EncodeChat(const ChatPromptSource& chat) const {
  std::vector<int32_t> ids = {kBos};
  for (const auto& message : chat.messages->as_array()) {
    const auto* const content = message.as_object().if_contains("content");
    if (!content || !content->is_string()) continue;
    for (const char c : content->get_string()) ids.push_back(static_cast<unsigned char>(c));
  }
  return ids;
}

std::string FakeText::Decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string text;
  for (const int32_t id : ids)
    if (!(skip_special && IsSpecial(id))) text += TokenBytes(id);
  return text;
}

std::string_view FakeText::TokenBytes(int32_t id) const {
  static const std::vector<char> bytes = [] {
    std::vector<char> all(256);
    for (int i = 0; i < 256; ++i) all[static_cast<size_t>(i)] = static_cast<char>(i);
    return all;
  }();
  if (id == kBos) return "<bos>";
  if (id == kEos) return "<eos>";
  if (id < 0 || id > 255) return {};
  return {&bytes[static_cast<size_t>(id)], 1};
}

FakeEngine::FakeEngine(double step_seconds) : step_seconds_(step_seconds) {
  info_.model_path = "fake";
  info_.vocab_size = FakeText::kVocabulary;
  info_.context_length = 4096;
  info_.max_total_tokens = 65536;
  info_.max_request_tokens = 4095;
  info_.eos_ids = {FakeText::kEos};
  info_.defaults.temperature = 0.6;
  thread_ = std::thread([this] { Run(); });
}

FakeEngine::~FakeEngine() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

EngineStats FakeEngine::stats() const {
  const std::lock_guard lock(mutex_);
  EngineStats stats;
  stats.running_requests = static_cast<int64_t>(live_.size());
  stats.finished_requests = finished_;
  stats.kv_tokens_total = info_.max_total_tokens;
  stats.last_step_monotonic = last_step_;
  stats.third_last_fault_monotonic = third_last_fault_;
  return stats;
}

Result<std::string> FakeEngine::Submit(GenerateRequest request, EventCallback callback) {
  const std::lock_guard lock(mutex_);
  if (draining_) return Error(Code::kDraining, "draining");
  if (request.id.empty()) request.id = fmt::format("fake-{}", next_id_++);
  if (live_.contains(request.id))
    return ParamError(Code::kDuplicateId, "rid", "request {} is running", request.id);
  seen_.push_back(request);
  const auto live = std::make_shared<Live>();
  live->fault = std::exchange(next_fault_, Fault::kNone);
  live->fault_status = next_status_;
  if (live->fault == Fault::kAtSubmit) return next_status_;
  const std::string id = request.id;
  live->request = std::move(request);
  live->callback = std::move(callback);
  live_[id] = live;
  wake_.notify_all();
  return id;
}

bool FakeEngine::Cancel(const std::string& id, const std::string& why) {
  const std::lock_guard lock(mutex_);
  const auto it = live_.find(id);
  if (it == live_.end()) return false;
  it->second->cancelled = true;
  it->second->why = why;
  return true;
}

std::vector<std::string> FakeEngine::LiveRequests() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> ids;
  for (const auto& [id, live] : live_) ids.push_back(id);
  return ids;
}

Result<GenerateResult> FakeEngine::Generate(GenerateRequest) {
  return Error(Code::kUnsupported, "the fake engine only streams");
}

void FakeEngine::Drain() {
  const std::lock_guard lock(mutex_);
  draining_ = true;
}

void FakeEngine::Shutdown() {
  const std::lock_guard lock(mutex_);
  draining_ = true;
  for (const auto& [id, live] : live_) {
    live->fault = Fault::kFirstEvent;
    live->fault_status = Error(Code::kDraining, "The server is shutting down.");
  }
}

void FakeEngine::SetThirdLastFault(double monotonic) {
  const std::lock_guard lock(mutex_);
  third_last_fault_ = monotonic;
}

void FakeEngine::InjectFault(Fault fault, Status status) {
  const std::lock_guard lock(mutex_);
  next_fault_ = fault;
  next_status_ = std::move(status);
}

std::vector<GenerateRequest> FakeEngine::Seen() const {
  const std::lock_guard lock(mutex_);
  return seen_;
}

GenerateEvent FakeEngine::Step(Live& live) {
  const GenerateRequest& request = live.request;
  GenerateEvent event;
  event.prompt_tokens = static_cast<int64_t>(request.input_ids.size());
  const auto position = [&](int32_t id, bool known) {
    PositionLogprobs at;
    at.id = id;
    if (known) at.logprob = -0.5f;
    for (int32_t t = 0; known && t < request.logprobs.top; ++t)
      at.top.push_back({id + t, -0.5f - static_cast<float>(t)});
    for (const int32_t asked : request.logprobs.token_ids) at.asked.push_back({asked, -3.0f});
    return at;
  };
  if (live.generated == 0 && request.logprobs.enabled && request.logprobs.prompt_start >= 0) {
    const auto start = static_cast<size_t>(request.logprobs.prompt_start);
    for (size_t i = start; i < request.input_ids.size(); ++i)
      event.prompt_logprobs.push_back(position(request.input_ids[i], i > start));
  }
  const bool fails = (live.fault == Fault::kFirstEvent && live.generated == 0) ||
                     (live.fault == Fault::kThirdToken && live.generated == 3);
  if (live.cancelled || fails) {
    const Status why = fails ? live.fault_status : Status(Code::kCancelled, live.why);
    event.finish = FinishReason{FinishReason::Type::kAbort, {}, {}, why};
    event.completion_tokens = live.generated;
    return event;
  }
  const int64_t room = request.sampling.max_new_tokens.value_or(40);
  if (live.generated < room) {
    const auto id = static_cast<int32_t>('a' + live.generated % 26);
    event.ids = {id};
    event.text = std::string(1, static_cast<char>(id));
    if (request.logprobs.enabled) event.logprobs.push_back(position(id, true));
    ++live.generated;
  }
  event.completion_tokens = live.generated;
  if (live.generated >= room) event.finish = FinishReason{FinishReason::Type::kLength, {}, {}, {}};
  return event;
}

void FakeEngine::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !live_.empty(); });
    std::vector<std::shared_ptr<Live>> batch;
    for (auto& [id, live] : live_) {
      if (stopping_) live->cancelled = true;
      batch.push_back(live);
    }
    if (stopping_ && batch.empty()) return;
    std::vector<GenerateEvent> events;
    for (const auto& live : batch) {
      events.push_back(Step(*live));
      if (!events.back().finish) continue;
      live_.erase(live->request.id);
      ++finished_;
    }
    last_step_ = MonotonicSeconds();
    lock.unlock();
    for (size_t i = 0; i < batch.size(); ++i) batch[i]->callback(std::move(events[i]));
    batch.clear();
    if (step_seconds_ > 0)
      std::this_thread::sleep_for(std::chrono::duration<double>(step_seconds_));
    lock.lock();
  }
}

}  // namespace sluice
