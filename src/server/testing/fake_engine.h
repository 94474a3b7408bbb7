// An engine without a model, for tests of the server: it answers "abcdef..." at a given pace, with
// plausible log-probabilities, and keeps what it was asked.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "server/api/text_service.h"
#include "sluice/engine.h"

namespace sluice {

/// One token a byte; 256 is BOS, 257 EOS, both special.
class FakeText final : public TextService {
 public:
  static constexpr int32_t kBos = 256, kEos = 257, kVocabulary = 300;

  bool has_chat_template() const override { return has_template; }
  /// A byte a token; the only special token that is added is for a text of nothing but "+".
  Result<std::vector<int32_t>> EncodePrompt(std::string_view text,
                                            bool add_special_tokens) const override;
  Result<std::vector<int32_t>> EncodeChat(const ChatPromptSource& chat) const override;
  std::string Decode(std::span<const int32_t> ids, bool skip_special) const override;
  std::string_view TokenBytes(int32_t id) const override;
  bool IsSpecial(int32_t id) const override { return id == kBos || id == kEos; }
  std::string Property(std::string_view) const override { return "<eos>"; }

  bool has_template = true;
};

class FakeEngine final : public Engine {
 public:
  explicit FakeEngine(double step_seconds = 0.0005);
  ~FakeEngine() override;

  const EngineInfo& info() const override { return info_; }
  EngineStats stats() const override;
  const TextFront* text() const override { return nullptr; }
  Result<std::string> Submit(GenerateRequest request, EventCallback callback) override;
  bool Cancel(const std::string& id, const std::string& why) override;
  std::vector<std::string> LiveRequests() const override;
  Result<GenerateResult> Generate(GenerateRequest request) override;
  void Drain() override;
  void Shutdown() override;

  /// The next request fails so, at Submit, or as an event before or after its first token.
  enum class Fault { kNone, kAtSubmit, kFirstEvent, kThirdToken };
  void InjectFault(Fault fault, Status status);
  /// What stats() says of numeric faults.
  void SetThirdLastFault(double monotonic);
  /// Requests seen so far, in order.
  std::vector<GenerateRequest> Seen() const;
  size_t live() const { return LiveRequests().size(); }

 private:
  struct Live {
    GenerateRequest request;
    EventCallback callback;
    int64_t generated = 0;
    bool cancelled = false;
    std::string why;
    Fault fault = Fault::kNone;
    Status fault_status;
  };
  void Run();
  GenerateEvent Step(Live& live);

  EngineInfo info_;
  const double step_seconds_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::map<std::string, std::shared_ptr<Live>> live_;
  std::vector<GenerateRequest> seen_;
  Fault next_fault_ = Fault::kNone;
  Status next_status_;
  int64_t next_id_ = 0, finished_ = 0;
  double last_step_ = 0, third_last_fault_ = 0;
  bool stopping_ = false, draining_ = false;
  std::thread thread_;
};

}  // namespace sluice
