#include "cli/engine_flags.h"

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <fstream>

#include "base/log.h"
#include "base/trace.h"
#include "cli/number_checks.h"

namespace sluice {
namespace {

constexpr int64_t kRetractIntervalDefault = 3;

void AddModelFlags(CLI::App& parser, EngineOptions& o) {
  const char* const group = "Model";
  parser
      .add_option("--model-path,--model", o.model_path,
                  "Checkpoint directory, or the name of a shipped geometry [required]")
      ->group(group);
  parser
      .add_option("--tokenizer-path", o.tokenizer_path, "Directory or tokenizer file [model path]")
      ->group(group);
  parser
      .add_option("--chat-template", o.chat_template,
                  "Jinja file that replaces the model's template")
      ->group(group);
  parser
      .add_flag("--skip-tokenizer-init,!--no-skip-tokenizer-init", o.skip_tokenizer_init,
                "Token ids in, token ids out")
      ->group(group);
  parser.add_option("--load-format", o.load_format, "Where weights come from; dummy: random ones")
      ->check(CLI::IsMember({"auto", "safetensors", "dummy"}))
      ->capture_default_str()
      ->group(group);
  parser
      .add_option("--dtype", o.dtype, "Arithmetic of activations; float16 is computed as bfloat16")
      ->transform(CLI::Transformer({{"float", "float32"}, {"half", "float16"}}))
      ->check(CLI::IsMember({"auto", "bfloat16", "float16", "float32"}))
      ->capture_default_str()
      ->group(group);
  parser
      .add_option("--quantization", o.quantization,
                  "Of weights that are stored as floats, as they load (docs/quantization.md)")
      ->check(CLI::IsMember({"none", "fp8", "int8", "int4"}))
      ->capture_default_str()
      ->group(group);
  parser
      .add_option("--quantization-group-size", o.quantization_group_size,
                  "Inputs that share an int4 scale")
      ->check(CLI::IsMember({"32", "64", "128"}))
      ->capture_default_str()
      ->group(group);
  parser
      .add_flag("--quantization-zero-points", o.quantization_zero_points,
                "A zero point for each int4 group")
      ->group(group);
  parser
      .add_option("--context-length", o.context_length, "Longest prompt plus answer [config.json]")
      ->check(NotNegative)
      ->group(group);
  parser
      .add_option("--json-model-override-args", o.json_model_override_args,
                  "JSON object laid over config.json")
      ->group(group);
}

void AddMemoryFlags(CLI::App& parser, EngineOptions& o) {
  const char* const group = "Memory and scheduling";
  parser
      .add_option("--mem-fraction-static", o.mem_fraction_static,
                  "Share of the memory limit for weights and pools")
      ->check(CLI::Range(0.01, 1.0))
      ->capture_default_str()
      ->group(group);
  parser
      .add_option("--recurrent-state-memory-ratio", o.recurrent_state_memory_ratio,
                  "Bytes of recurrent states for each byte of KV pages")
      ->check(Positive)
      ->capture_default_str()
      ->group(group);
  parser
      .add_option("--max-recurrent-state-size", o.max_recurrent_state_size,
                  "Recurrent state slots [derived]")
      ->check(NotNegative)
      ->group(group);
  parser.add_option("--max-running-requests", o.max_running_requests, "At once [derived]")
      ->check(NotNegative)
      ->group(group);
  parser.add_option("--max-total-tokens", o.max_total_tokens, "KV capacity in tokens [derived]")
      ->check(NotNegative)
      ->group(group);
  parser.add_option("--max-queued-requests", o.max_queued_requests, "More are refused with 429")
      ->check(Positive)
      ->capture_default_str()
      ->group(group);
  parser
      .add_option("--decode-log-interval", o.decode_log_interval,
                  "Steps that decode between two log lines; 0: none")
      ->check(NotNegative)
      ->capture_default_str()
      ->group(group);
  parser
      .add_option("--chunked-prefill-size", o.chunked_prefill_size,
                  "Prompt tokens of a request in one step; -1: never cut")
      ->check(CLI::Range(int64_t{-1}, int64_t{1} << 30))
      ->capture_default_str()
      ->group(group);
  parser.add_option("--max-prefill-tokens", o.max_prefill_tokens, "Prompt tokens in one step")
      ->check(Positive)
      ->capture_default_str()
      ->group(group);
  parser.add_option("--page-size", o.page_size, "Tokens a KV page; rounded up to a multiple of 64")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str()
      ->group(group);
  parser
      .add_option("--random-seed", o.random_seed,
                  "Of sampling without a seed, and of dummy weights")
      ->check(NotNegative)
      ->capture_default_str()
      ->group(group);
}

void AddMachineFlags(CLI::App& parser, EngineFlags& flags) {
  EngineOptions& o = flags.options;
  const char* const group = "Machine and log";
  parser
      .add_option("--activation-quantization", o.activation_quantization,
                  "Of rows that meet int8 or int4 weights (docs/quantization.md); auto: int8")
      ->check(CLI::IsMember({"auto", "none", "int8"}))
      ->capture_default_str()
      ->group(group);
  parser.add_option("--moe-backend", o.moe_backend, "How experts are computed")
      ->check(CLI::IsMember({"auto", "epmoe", "fused", "fused_v2"}))
      ->capture_default_str()
      ->group(group);
  parser.add_option("--threads", o.threads, "Threads that compute [every usable core]")
      ->check(CLI::Range(0, 4096))
      ->group(group);
  parser.add_option("--cpu-isa", o.cpu_isa, "Fastest instruction set to use")
      ->check(CLI::IsMember(
          {"auto", "avx2", "avx_vnni", "avx512", "vnni", "avx512_vbmi", "avx512_bf16", "amx"}))
      ->capture_default_str()
      ->group(group);
  parser.add_option("--log-level", flags.log_level, "trace, debug, info, warning, error, off")
      ->capture_default_str()
      ->group(group);
  parser
      .add_option("--trace", flags.trace_path, "Write a Chrome trace of all operations at the end")
      ->group(group);
}

}  // namespace

bool IsOn(const char* variable) {
  const char* const value = std::getenv(variable);
  return value && *value && std::string_view(value) != "0" && std::string_view(value) != "false";
}

void AddEngineFlags(CLI::App& parser, EngineFlags& flags) {
  AddModelFlags(parser, flags.options);
  AddMemoryFlags(parser, flags.options);
  AddMachineFlags(parser, flags);
}

Status ApplyEngineFlags(EngineFlags& flags) {
  const auto level = log::ParseLevel(flags.log_level);
  if (!level.ok())
    return ParamError(Code::kInvalidArgument, "--log-level", "--log-level: {}",
                      level.status().message());
  log::SetLevel(*level);
  if (flags.options.model_path.empty())
    return ParamError(Code::kMissingParameter, "--model-path", "--model-path is required");
  if (!flags.trace_path.empty()) {
    if (!std::ofstream(flags.trace_path, std::ios::app))  // now, not when the trace would be lost
      return ParamError(Code::kInvalidArgument, "--trace", "--trace: {} cannot be written",
                        Quoted(flags.trace_path));
    trace::Enable();
  }
  flags.options.allow_longer_context = IsOn("SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN");
  if (IsOn("SGLANG_TEST_RETRACT")) {
    const char* const interval = std::getenv("SGLANG_TEST_RETRACT_INTERVAL");
    const int64_t asked = interval ? std::atoll(interval) : 0;
    flags.options.test_retract_interval = asked > 0 ? asked : kRetractIntervalDefault;
  }
  return Status();
}

void FinishEngineFlags(const EngineFlags& flags) {
  if (flags.trace_path.empty()) return;
  const Status written = trace::WriteChromeTrace(flags.trace_path);
  if (!written.ok()) log::Error("--trace: {}", written.message());
}

}  // namespace sluice
