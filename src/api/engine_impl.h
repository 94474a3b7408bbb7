// The public engine over an engine core and a text front.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "api/answer.h"
#include "api/output_thread.h"
#include "engine/engine_core.h"
#include "sluice/engine.h"
#include "text/front.h"

namespace sluice {

/// Everything an engine is made of, loaded and sized. Members are destroyed from the last to the
/// first: each uses those above it.
struct EngineParts {
  EngineInfo info;
  uint64_t random_seed = 0;
  int64_t queued_requests = 1024;
  double queue_seconds = 0;  // 0: no limit
  bool pin = false;
  std::unique_ptr<Team> team;
  std::unique_ptr<Model> model;
  std::unique_ptr<TextFront> front;  // null: ids only
  std::unique_ptr<StepEngine> steps;
};

class EngineImpl : public Engine {
 public:
  explicit EngineImpl(EngineParts parts);
  ~EngineImpl() override;

  const EngineInfo& info() const override { return parts_.info; }
  EngineStats stats() const override;
  const TextFront* text() const override { return parts_.front.get(); }
  Result<std::string> Submit(GenerateRequest request, EventCallback callback) override;
  bool Cancel(const std::string& id, const std::string& why) override;
  std::vector<std::string> LiveRequests() const override;
  Result<GenerateResult> Generate(GenerateRequest request) override;
  void Drain() override { core_->Drain(); }
  void Shutdown() override { core_->Stop(); }

 private:
  Status Check(const GenerateRequest& request) const;
  Status CheckLengths(const GenerateRequest& request) const;
  CoreRequest MakeCoreRequest(const GenerateRequest& request);
  std::string MadeUpId();
  void Handle(CoreEvent&& event);
  void Forget(Answer* answer);

  EngineParts parts_;
  const uint64_t id_key_;

  mutable std::mutex mutex_;
  std::unordered_map<Answer*, std::unique_ptr<Answer>> answers_;  // until the core has ended them
  std::unordered_map<std::string, Answer*> live_;                 // until the client has heard it
  uint64_t requests_ = 0;

  std::unique_ptr<EngineCore> core_;
  std::unique_ptr<OutputThread> output_;
};

}  // namespace sluice
