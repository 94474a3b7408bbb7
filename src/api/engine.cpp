// Engine::Open: from options to a running engine.
#include "sluice/engine.h"

#include <algorithm>
#include <boost/json/value.hpp>
#include <set>

#include "api/engine_impl.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/units.h"
#include "checkpoint/generation_config.h"
#include "checkpoint/model_path.h"
#include "memory/budget.h"
#include "models/registry.h"
#include "text/json_text.h"

namespace sluice {
namespace {

constexpr int64_t kTokensMax = int64_t{1} << 40;
constexpr int64_t kRequestsMax = 65536;
constexpr int kThreadsMax = 4096;
constexpr int64_t kPageSizeMax = 1 << 20;
// With few processors the I/O threads need to move in between; from here on a lane owns its own.
constexpr int kPinFromLanes = 4;

Status CheckFlag(std::string_view name, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return ParamError(Code::kInvalidArgument, name, "{} is {}, allowed are {} to {}", name, value,
                    low, high);
}

Status CheckOptions(const EngineOptions& o) {
  RETURN_IF_ERROR(CheckFlag("context-length", o.context_length, 0, kTokensMax));
  RETURN_IF_ERROR(
      CheckFlag("max-recurrent-state-size", o.max_recurrent_state_size, 0, kRequestsMax));
  RETURN_IF_ERROR(CheckFlag("max-running-requests", o.max_running_requests, 0, kRequestsMax));
  RETURN_IF_ERROR(CheckFlag("max-total-tokens", o.max_total_tokens, 0, kTokensMax));
  RETURN_IF_ERROR(CheckFlag("max-queued-requests", o.max_queued_requests, 0, kTokensMax));
  RETURN_IF_ERROR(CheckFlag("decode-log-interval", o.decode_log_interval, 0, kTokensMax));
  if (o.chunked_prefill_size < -1 || o.chunked_prefill_size == 0)
    return ParamError(Code::kInvalidArgument, "chunked-prefill-size",
                      "chunked-prefill-size is {}, allowed are -1 (never cut) and 1 upwards",
                      o.chunked_prefill_size);
  RETURN_IF_ERROR(CheckFlag("max-prefill-tokens", o.max_prefill_tokens, 1, kTokensMax));
  RETURN_IF_ERROR(CheckFlag("page-size", o.page_size, 1, kPageSizeMax));
  RETURN_IF_ERROR(CheckFlag("threads", o.threads, 0, kThreadsMax));
  if (o.page_size % kPageTokens != 0)
    log::Info("page-size {} is rounded up to {}: pages hold {} tokens inside", o.page_size,
              RoundUp(o.page_size, kPageTokens), kPageTokens);
  return {};
}

Result<std::unique_ptr<TextFront>> OpenFront(const EngineOptions& options, const ModelPath& path,
                                             const ModelInfo& model) {
  std::unique_ptr<TextFront> none;
  if (options.skip_tokenizer_init) return none;
  if (path.directory.empty() && options.tokenizer_path.empty()) {
    log::Warning("{} has no tokenizer: serving token ids only", path.name);
    return none;
  }
  auto front = TextFront::Open({.model_dir = path.directory,
                                .tokenizer_path = options.tokenizer_path,
                                .chat_template_path = options.chat_template,
                                .architecture = model.architecture,
                                .template_limits = {}});
  const bool asked_for = !options.tokenizer_path.empty() || !options.chat_template.empty();
  if (!front.ok() && front.status().code() == Code::kNotFound && !asked_for) {
    log::Warning("{}; serving token ids only", front.status().message());
    return none;
  }
  if (!front.ok()) return front.status();
  const int64_t id_end = front->tokenizer().id_end();
  if (id_end > model.vocab_size)
    return Error(Code::kBadCheckpoint,
                 "the tokenizer has ids up to {}, the model's vocab_size is only {}", id_end - 1,
                 model.vocab_size);
  return std::make_unique<TextFront>(std::move(*front));
}

SamplingParams DefaultsFrom(const GenerationConfig& config) {
  SamplingParams out;
  out.temperature = config.temperature.value_or(out.temperature);
  out.top_p = config.top_p.value_or(out.top_p);
  out.top_k = config.top_k.value_or(out.top_k);
  out.min_p = config.min_p.value_or(out.min_p);
  out.repetition_penalty = config.repetition_penalty.value_or(out.repetition_penalty);
  return out;
}

/// EOS ids of generation_config.json, of config.json (or the family's default), of the tokenizer
/// (`front` may be null) and of the family's chat format, and the sampling defaults. SGLang's rule:
/// each of them ends an answer.
Status ReadEnds(const ModelPath& path, const ModelInfo& model, const TextFront* front,
                EngineInfo& info) {
  GenerationConfig generation;
  if (!path.directory.empty()) {
    TRY(generation, ReadGenerationConfig(path.directory, model.vocab_size));
  }
  info.defaults = DefaultsFrom(generation);
  std::set<int32_t> ids(generation.eos_token_ids.begin(), generation.eos_token_ids.end());
  ids.insert(model.eos_token_ids.begin(), model.eos_token_ids.end());
  if (front) {
    ids.insert(front->stop_token_ids().begin(), front->stop_token_ids().end());
    if (const auto id = front->tokenizer().FindId(front->eos_token())) ids.insert(*id);
  }
  info.eos_ids.assign(ids.begin(), ids.end());
  return {};
}

Result<int64_t> ChooseContext(const EngineOptions& options, const ModelInfo& model) {
  if (options.context_length > model.max_position && !options.allow_longer_context)
    return ParamError(Code::kInvalidArgument, "context-length",
                      "context-length is {}, the model allows up to {} (max_position_embeddings); "
                      "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1 serves longer ones all the same",
                      options.context_length, model.max_position);
  return options.context_length > 0 ? options.context_length : model.max_position;
}

void DescribeParts(const EngineOptions& options, const ModelPath& path, const Machine& machine,
                   EngineParts& parts) {
  EngineInfo& info = parts.info;
  const ModelInfo& model = parts.model->info();
  info.model_path = options.model_path;
  info.tokenizer_path = options.tokenizer_path.empty() ? path.directory : options.tokenizer_path;
  info.architecture = model.architecture;
  info.model_type = model.model_type;
  info.dtype = model.rounding == Rounding::kBf16 ? "bfloat16" : "float32";
  info.moe_backend = options.moe_backend;
  info.cpu = ProcessorName() + " (" + DescribeFeatures(machine) + ")";
  info.vocab_size = model.vocab_size;
  info.layers = model.layers;
  info.linear_layers = model.linear_layers;
  info.page_size = RoundUp(options.page_size, kPageTokens);
  info.weight_bytes = model.weight_bytes;
  info.threads = parts.team->lanes();
}

/// Divides the memory, allocates it and writes the figures into `parts.info`.
Status SizeAndAllocate(const EngineOptions& options, const Machine& machine, EngineParts& parts) {
  const Model& model = *parts.model;
  EngineInfo& info = parts.info;
  TRY(const int64_t context, ChooseContext(options, model.info()));
  StepEngineOptions steps;
  steps.limits.running_requests =
      options.max_running_requests > 0 ? options.max_running_requests : kRunningRequestsDefault;
  steps.limits.chunk_tokens = options.chunked_prefill_size;
  steps.limits.prefill_tokens = options.max_prefill_tokens;
  steps.limits.retract_interval = options.test_retract_interval;
  steps.decode_log_interval = options.decode_log_interval;
  const uint64_t scratch = StepEngine::ScratchBytes(model, steps.limits, context, info.threads);
  TRY(const Budget budget, PlanMemory({.limit_bytes = MemoryLimitBytes(),
                                       .static_fraction = options.mem_fraction_static,
                                       .state_memory_ratio = options.recurrent_state_memory_ratio,
                                       .weight_bytes = info.weight_bytes,
                                       .scratch_bytes = scratch,
                                       .layout = model.cache_layout(),
                                       .context_length = context,
                                       .context_is_explicit = options.context_length > 0,
                                       .max_running_requests = options.max_running_requests,
                                       .max_recurrent_state_size = options.max_recurrent_state_size,
                                       .max_total_tokens = options.max_total_tokens}));
  if (budget.context_length < budget.context_wanted)
    log::Warning("context reduced from {} to {} tokens: more does not fit the memory",
                 budget.context_wanted, budget.context_length);
  log::Info("{}", MemoryTable(budget, model.cache_layout()));
  steps.limits.running_requests = budget.running_requests;
  steps.context_length = budget.context_length;
  steps.kv_pages = budget.kv_pages;
  steps.state_slots = budget.state_slots;
  TRY(parts.steps, StepEngine::Create(model, steps, *parts.team, machine));

  info.context_length = budget.context_length;
  info.max_total_tokens = budget.max_total_tokens();
  info.max_running_requests = budget.running_requests;
  info.state_slots = budget.state_slots;
  info.max_request_tokens = std::min(budget.context_length, budget.max_total_tokens()) - 1;
  info.scratch_bytes = budget.scratch_bytes;
  info.kv_bytes = budget.kv_bytes;
  info.state_bytes = budget.state_bytes;
  info.state_bytes_per_request = model.cache_layout().SlotBytes();
  info.kv_bytes_per_token = model.cache_layout().kv_layers * model.cache_layout().kv_row_bytes;
  return {};
}

Status NoTokenizer() {
  return Error(Code::kUnsupported, "this engine has no tokenizer: give it token ids");
}

}  // namespace

Result<std::vector<int32_t>> Engine::Encode(std::string_view prompt) const {
  if (text() == nullptr) return NoTokenizer();
  return text()->EncodePrompt(prompt);
}

Result<std::vector<int32_t>> Engine::EncodeChat(std::string_view messages_json) const {
  if (text() == nullptr) return NoTokenizer();
  TRY(const boost::json::value messages, ParseJsonText(messages_json));
  TRY(ChatPrompt prompt, text()->EncodeChat({.messages = &messages}));
  return std::move(prompt.ids);
}

Result<std::unique_ptr<Engine>> Engine::Open(const EngineOptions& options) {
  const double start = MonotonicSeconds();
  RETURN_IF_ERROR(CheckOptions(options));
  TRY(const Machine machine, LimitedMachine(options.cpu_isa));
  TRY(const MoeBackend backend, ParseMoeBackend(options.moe_backend));
  TRY(const ActivationQuant activations, ParseActivationQuant(options.activation_quantization));
  TRY(const ModelPath path, ResolveModelPath(options.model_path));

  EngineParts parts;
  const int lanes = options.threads > 0 ? options.threads : UsableCores();
  parts.pin = lanes >= kPinFromLanes && lanes <= UsableCores();
  parts.team = std::make_unique<Team>(lanes, parts.pin);
  parts.random_seed = options.random_seed;
  parts.queued_requests = options.max_queued_requests;
  parts.queue_seconds = options.max_queue_seconds;
  const ModelLoadOptions load{.model_path = options.model_path,
                              .load_format = options.load_format,
                              .dtype = options.dtype,
                              .config_overrides = options.json_model_override_args,
                              .quantization = {.format = options.quantization,
                                               .group_size = options.quantization_group_size,
                                               .zero_points = options.quantization_zero_points},
                              .dummy_seed = options.random_seed,
                              .moe_backend = backend,
                              .activations = activations,
                              .show_progress = options.show_progress};
  // What can be refused without the weights is refused before they are read.
  TRY(const ModelDescription description, DescribeModel(load));
  RETURN_IF_ERROR(ChooseContext(options, description.info).status());
  parts.info.vocab_size = description.info.vocab_size;
  TRY(parts.front, OpenFront(options, path, description.info));
  RETURN_IF_ERROR(ReadEnds(path, description.info, parts.front.get(), parts.info));
  TRY(parts.model, LoadModel(load, *parts.team));
  DescribeParts(options, path, machine, parts);
  RETURN_IF_ERROR(SizeAndAllocate(options, machine, parts));
  parts.info.load_seconds = MonotonicSeconds() - start;
  return std::unique_ptr<Engine>(std::make_unique<EngineImpl>(std::move(parts)));
}

}  // namespace sluice
