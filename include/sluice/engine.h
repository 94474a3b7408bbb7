// The public interface: open a model, generate. The CLI and the server use nothing else of the
// engine.
//
//   auto engine = sluice::Engine::Open({.model_path = "models/sluice-tiny"});
//   auto prompt = (*engine)->Encode("Hello");
//   auto result = (*engine)->Generate({.input_ids = *prompt});
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sluice/sampling.h"
#include "sluice/status.h"

namespace sluice {

class TextFront;  // text/front.h: tokenizer and chat template

/// What `Open` needs to know. Names follow the command-line flags.
struct EngineOptions {
  std::string model_path = {};       // a checkpoint directory, or a shipped geometry's name
  std::string tokenizer_path = {};   // empty: model_path
  std::string chat_template = {};    // a file; empty: the model's own
  bool skip_tokenizer_init = false;  // token ids in, token ids out
  std::string load_format = "auto";  // auto, safetensors, dummy
  std::string dtype = "auto";        // auto, bfloat16, float32; float16 is computed as bfloat16
  // Of weights that are stored as floats, as they load: none, fp8, int8, int4.
  std::string quantization = "none";
  int64_t quantization_group_size = 64;       // int4: inputs that share a scale: 32, 64, 128
  bool quantization_zero_points = false;      // int4: a zero point a group
  int64_t context_length = 0;                 // 0: from config.json
  bool allow_longer_context = false;          // context_length may exceed what config.json says
  std::string json_model_override_args = {};  // JSON object laid over config.json
  double mem_fraction_static = 0.88;          // of the memory limit, for weights and pools
  double recurrent_state_memory_ratio = 0.9;
  int64_t max_recurrent_state_size = 0;  // 0: derived
  int64_t max_running_requests = 0;      // 0: derived
  int64_t max_total_tokens = 0;          // 0: derived
  int64_t max_queued_requests = 1024;    // beyond those that run
  double max_queue_seconds = 0;          // from Submit to admission; 0: as long as it takes
  int64_t chunked_prefill_size = 4096;   // -1: never cut
  int64_t max_prefill_tokens = 16384;
  int64_t page_size = 64;  // rounded up to a multiple of 64
  uint64_t random_seed = 42;
  std::string activation_quantization = "auto";  // of rows times int8, int4: auto, none, int8
  std::string moe_backend = "auto";
  int threads = 0;  // 0: every usable core
  std::string cpu_isa = "auto";
  bool show_progress = true;
  int64_t decode_log_interval = 40;   // steps that decode between two log lines; 0: none
  int64_t test_retract_interval = 0;  // > 0: retract a request every so many steps (tests)
};

struct GenerateRequest {
  std::string id = {};                  // unique among live requests; empty: made up
  std::vector<int32_t> input_ids = {};  // not empty, each in [0, vocab_size)
  SamplingParams sampling = {};
  LogprobOptions logprobs = {};
};

struct FinishReason {
  enum class Type { kStop, kLength, kAbort };
  Type type = Type::kStop;
  std::optional<int32_t> matched_token = {};       // kStop by an EOS or stop id
  std::optional<std::string> matched_string = {};  // kStop by a stop string
  Status error = {};                               // kAbort: why
};

/// What one request has produced since its last event. Events of a request arrive in order, on one
/// of the engine's output threads; exactly one has `finish`, and it is the last.
struct GenerateEvent {
  std::vector<int32_t> ids;                       // new token ids
  std::string text;                               // new text; whole characters only, stop strings
                                                  // and their possible beginnings held back
  std::vector<PositionLogprobs> logprobs;         // one per new id, if asked for
  std::vector<PositionLogprobs> prompt_logprobs;  // all at once, with the first event
  std::optional<FinishReason> finish;
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;  // so far
  int64_t cached_tokens = 0;
  double queue_seconds = 0;    // from Submit to first admission
  double elapsed_seconds = 0;  // from Submit to this event
};
using EventCallback = std::function<void(GenerateEvent&&)>;

/// A whole answer.
struct GenerateResult {
  std::vector<int32_t> ids;
  std::string text;
  std::vector<PositionLogprobs> logprobs, prompt_logprobs;
  FinishReason finish;
  int64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
  double elapsed_seconds = 0;
};

/// Fixed facts about an open engine.
struct EngineInfo {
  std::string model_path, tokenizer_path, architecture, model_type, dtype, moe_backend, cpu;
  int64_t vocab_size = 0;
  int64_t layers = 0, linear_layers = 0;
  int64_t context_length = 0;
  int64_t max_total_tokens = 0;  // KV capacity
  int64_t max_running_requests = 0;
  int64_t state_slots = 0;         // recurrent states
  int64_t max_request_tokens = 0;  // prompt plus answer of one request
  int64_t page_size = 64;
  uint64_t weight_bytes = 0, scratch_bytes = 0, kv_bytes = 0, state_bytes = 0;
  uint64_t state_bytes_per_request = 0, kv_bytes_per_token = 0;
  int threads = 0;
  std::vector<int32_t> eos_ids;
  SamplingParams defaults;  // from generation_config.json
  double load_seconds = 0;
};

/// A consistent snapshot of the counters; taking it never waits for the engine.
struct EngineStats {
  int64_t running_requests = 0, queued_requests = 0;
  int64_t kv_tokens_used = 0, kv_tokens_total = 0;
  int64_t state_slots_used = 0, state_slots_total = 0;
  int64_t prompt_tokens = 0, generated_tokens = 0;  // since start
  int64_t requests = 0, finished_requests = 0, aborted_requests = 0, retracted_requests = 0;
  int64_t steps = 0, prefill_steps = 0;
  double step_seconds = 0;                  // total time in steps
  double last_step_monotonic = 0;           // MonotonicSeconds() when the last step ended
  double generation_tokens_per_second = 0;  // over the last reporting interval
  int64_t numeric_faults = 0;               // requests that ended because logits were not finite
  double third_last_fault_monotonic = 0;    // MonotonicSeconds() then; 0: fewer than three
  double current_step_seconds = 0;          // how long the step that runs now has taken; 0: none
};

/// Thread-safe. Destroying it aborts what is running and joins its threads.
class Engine {
 public:
  /// Loads the model; logs progress and the memory table. Errors say which file, field or flag.
  static Result<std::unique_ptr<Engine>> Open(const EngineOptions& options);
  virtual ~Engine() = default;

  virtual const EngineInfo& info() const = 0;
  virtual EngineStats stats() const = 0;
  /// Tokenizer and template, or nullptr with skip_tokenizer_init or without a tokenizer. The type
  /// is for programs inside this tree; others need no more than the two calls below.
  virtual const TextFront* text() const = 0;

  /// A plain prompt in token ids; special tokens in it count. Errors: kUnsupported without a
  /// tokenizer.
  Result<std::vector<int32_t>> Encode(std::string_view prompt) const;
  /// A conversation through the model's chat template: a JSON array of messages, as in
  /// /v1/chat/completions. Only the template makes control tokens. Errors: kUnsupported without a
  /// tokenizer, kInvalidArgument for what is no such array, or without a template.
  Result<std::vector<int32_t>> EncodeChat(std::string_view messages_json) const;

  /// Starts a request; `callback` may be called before Submit returns, never under a lock, and
  /// must not block. Returns the request's id. Errors (nothing is called then): kInvalidArgument,
  /// kContextLength, kDuplicateId, kQueueFull, kDraining.
  virtual Result<std::string> Submit(GenerateRequest request, EventCallback callback) = 0;

  /// Ends a request at the next step; its last event then has an abort reason. False if no live
  /// request has this id.
  virtual bool Cancel(const std::string& id, const std::string& why = "cancelled") = 0;

  /// Ids of live requests.
  virtual std::vector<std::string> LiveRequests() const = 0;

  /// Submit and wait.
  virtual Result<GenerateResult> Generate(GenerateRequest request) = 0;

  /// Refuses new requests from now on (kDraining); running ones go on.
  virtual void Drain() = 0;

  /// Ends what is live with kDraining, without waiting for it, and takes nothing any more.
  virtual void Shutdown() = 0;
};

}  // namespace sluice
