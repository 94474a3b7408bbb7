#include "cli/foreign_flags.h"

#include <CLI/CLI.hpp>

#include "base/log.h"

namespace sluice {

enum class Form { kSwitch, kValue };

struct ForeignFlag {
  const char* names;
  Form form;
  // Which values change nothing: "*" all of them (a switch may be set), "" none, or a list.
  const char* harmless;
};

namespace {

constexpr Form kSwitch = Form::kSwitch, kValue = Form::kValue;

// In the order of SGLang-JAX's server_args.py.
// clang-format off
constexpr ForeignFlag kForeignFlags[] = {
    // Model and tokenizer.
    {"--tokenizer-mode",                         kValue,  "auto slow"},
    {"--tokenizer-backend",                      kValue,  "*"},
    {"--model-loader-extra-config",              kValue,  "*"},
    {"--trust-remote-code",                      kSwitch, "*"},
    {"--is-embedding",                           kSwitch, ""},
    {"--revision",                               kValue,  "*"},
    {"--model-impl",                             kValue,  "*"},
    {"--model-layer-nums",                       kValue,  ""},
    {"--download-dir",                           kValue,  "*"},
    // HTTP and API.
    {"--warmups",                                kValue,  "*"},
    {"--api-key",                                kValue,  ""},
    {"--api-key-file",                           kValue,  ""},
    {"--admin-api-key",                          kValue,  ""},
    {"--ssl-keyfile",                            kValue,  ""},
    {"--ssl-certfile",                           kValue,  ""},
    {"--ssl-ca-certs",                           kValue,  ""},
    {"--ssl-keyfile-password",                   kValue,  ""},
    {"--file-storage-path",                      kValue,  "*"},
    {"--enable-cache-report",                    kSwitch, "*"},
    {"--reasoning-parser",                       kValue,  ""},
    {"--tool-call-parser",                       kValue,  ""},
    {"--enable-tokenizer-batch-encode",          kSwitch, "*"},
    {"--multimodal",                             kSwitch, ""},
    {"--constrained-json-whitespace-pattern",    kValue,  ""},
    {"--constrained-json-disable-any-whitespace", kSwitch, ""},
    {"--grammar-backend",                        kValue,  "none"},
    {"--config",                                 kValue,  ""},
    // Dtype and quantisation.
    {"--dtype-config",                           kValue,  ""},
    {"--quantization-param-path",                kValue,  ""},
    {"--quantization-config-path",               kValue,  ""},
    {"--kv-cache-dtype",                         kValue,  "auto bf16 bfloat16"},
    // Scheduling.
    {"--enable-mixed-chunk",                     kSwitch, "*"},
    {"--schedule-policy",                        kValue,  "fcfs lpm"},
    {"--schedule-conservativeness",              kValue,  "*"},
    {"--swa-full-tokens-ratio",                  kValue,  "*"},
    {"--disable-hybrid-swa-memory",              kSwitch, "*"},
    {"--recurrent-track-interval",               kValue,  "*"},
    {"--enable-recurrent-extra-buffer",          kSwitch, "*"},
    {"--disable-radix-cache",                    kSwitch, "*"},
    {"--enable-unified-radix-tree",              kSwitch, "*"},
    {"--disable-overlap-schedule",               kSwitch, "*"},
    {"--sleep-on-idle",                          kSwitch, "*"},
    {"--dist-timeout",                           kValue,  "*"},
    {"--max-seq-len",                            kValue,  "*"},
    {"--precompile-token-paddings",              kValue,  "*"},
    {"--precompile-bs-paddings",                 kValue,  "*"},
    {"--disable-precompile",                     kSwitch, "*"},
    // Devices and parallelism.
    {"--device",                                 kValue,  "auto cpu"},
    {"--device-indexes",                         kValue,  ""},
    {"--tensor-parallel-size,--tp-size,--tp",    kValue,  "1"},
    {"--data-parallel-size,--dp-size,--dp",      kValue,  "1"},
    {"--ep-size,--ep",                           kValue,  "1"},
    {"--enable-sequence-parallel",               kSwitch, "*"},
    {"--dp-schedule-policy",                     kValue,  "*"},
    {"--nnodes",                                 kValue,  "1"},
    {"--node-rank",                              kValue,  "0"},
    {"--dist-init-addr",                         kValue,  "*"},
    {"--ep-num-redundant-experts",               kValue,  "0"},
    {"--ep-dispatch-algorithm",                  kValue,  "*"},
    {"--init-expert-location",                   kValue,  "trivial"},
    {"--enable-expert-distribution-recorder",    kSwitch, ""},
    {"--expert-distribution-recorder-buffer-size", kValue, "*"},
    {"--expert-distribution-recorder-output-file", kValue, "*"},
    {"--enable-expert-balance-debug",            kSwitch, ""},
    {"--expert-balance-segment-counter",         kValue,  "*"},
    {"--expert-balance-output-file",             kValue,  "*"},
    {"--enable-return-routed-experts",           kSwitch, ""},
    {"--attention-backend",                      kValue,  "*"},
    {"--gdn-prefill-impl",                       kValue,  "*"},
    {"--dsa-use-pallas",                         kSwitch, "*"},
    {"--disable-jax-allreduce-metadata",         kSwitch, "*"},
    {"--disable-topk-kernel",                    kSwitch, "*"},
    // Speculation, sampling, LoRA, engine.
    {"--speculative-algorithm",                  kValue,  ""},
    {"--speculative-draft-model-path,--speculative-draft-model", kValue, ""},
    {"--speculative-draft-model-revision",       kValue,  "*"},
    {"--speculative-num-steps",                  kValue,  "*"},
    {"--speculative-eagle-topk",                 kValue,  "*"},
    {"--speculative-num-draft-tokens",           kValue,  "*"},
    {"--speculative-accept-threshold-single",    kValue,  "*"},
    {"--speculative-accept-threshold-acc",       kValue,  "*"},
    {"--enable-deterministic-sampling",          kSwitch, ""},
    {"--enable-single-process",                  kSwitch, "*"},
    {"--enable-nan-detection",                   kSwitch, "*"},
    {"--use-sort-for-toppk-minp",                kSwitch, "*"},
    {"--enable-lora",                            kSwitch, ""},
    {"--lora-paths",                             kValue,  ""},
    {"--max-loras-per-batch",                    kValue,  "*"},
    {"--max-lora-rank",                          kValue,  "*"},
    {"--max-loaded-loras",                       kValue,  "*"},
    {"--lora-target-modules",                    kValue,  "*"},
    {"--lora-eviction-policy",                   kValue,  "*"},
    {"--enable-static-lora",                     kSwitch, ""},
    {"--lora-scaling",                           kValue,  "*"},
    {"--enable-engine-loop-run-forever-daemon",  kSwitch, "*"},
    {"--enable-precision-tracer",                kSwitch, ""},
    // Logs and metrics.
    {"--log-level-http",                         kValue,  "*"},
    {"--log-requests",                           kSwitch, "*"},
    {"--log-requests-level",                     kValue,  "*"},
    {"--crash-dump-folder",                      kValue,  "*"},
    {"--show-time-cost",                         kSwitch, "*"},
    {"--enable-metrics",                         kSwitch, "*"},
    {"--enable-metrics-for-all-schedulers",      kSwitch, "*"},
    {"--bucket-time-to-first-token",             kValue,  ""},
    {"--bucket-inter-token-latency",             kValue,  ""},
    {"--bucket-e2e-request-latency",             kValue,  ""},
    {"--enable-request-time-stats-logging",      kSwitch, "*"},
    {"--kv-events-config",                       kValue,  ""},
    // Host tier and disaggregation.
    {"--hicache-storage",                        kValue,  "disable"},
    {"--hicache-ratio",                          kValue,  "*"},
    {"--hicache-write-through-threshold",        kValue,  "*"},
    {"--hicache-write-policy",                   kValue,  "*"},
    {"--disaggregation-mode",                    kValue,  "null"},
    {"--disaggregation-bootstrap-url",           kValue,  "*"},
    {"--disaggregation-bootstrap-port",          kValue,  "*"},
    {"--disaggregation-transfer-port",           kValue,  "*"},
    {"--disaggregation-side-channel-port",       kValue,  "*"},
    {"--disaggregation-host-ip",                 kValue,  "*"},
    {"--disaggregation-channel-number",          kValue,  "*"},
    {"--disaggregation-shared-secret",           kValue,  "*"},
    {"--disaggregation-bootstrap-timeout-seconds", kValue, "*"},
    {"--disaggregation-pull-timeout-seconds",    kValue,  "*"},
    {"--disaggregation-ack-timeout-seconds",     kValue,  "*"},
    {"--disaggregation-orphan-reaper-interval-seconds", kValue, "*"},
    {"--disaggregation-decode-watchdog-seconds", kValue,  "*"},
    {"--disaggregation-num-reserved-decode-tokens", kValue, "*"},
    {"--disaggregation-max-inflight-transfers",  kValue,  "*"},
    {"--disaggregation-enable-d2h",              kSwitch, "*"},
    {"--disaggregation-d2h-pool-size",           kValue,  "*"},
    {"--disaggregation-d2h-max-tokens",          kValue,  "*"},
    {"--disaggregation-use-raiden",              kSwitch, "*"},
    {"--disaggregation-enable-chunk-prefill-transfer", kSwitch, "*"},
    {"--pd-disaggregation",                      kValue,  ""},
    {"--pd-prefill-mem-fraction",                kValue,  "*"},
    {"--pd-decode-mem-fraction",                 kValue,  "*"},
    {"--pd-prefill-max-tokens",                  kValue,  "*"},
    {"--pd-decode-max-tokens",                   kValue,  "*"},
    {"--pd-num-prefill",                         kValue,  "*"},
    {"--pd-num-decode",                          kValue,  "*"},
    {"--pd-prefill-tp-size",                     kValue,  "*"},
    {"--pd-prefill-ep-size",                     kValue,  "*"},
};
// clang-format on

/// "--a,--b" as "--a,--b,!--no-a,!--no-b".
std::string WithNegations(std::string_view names) {
  std::string all(names);
  while (!names.empty()) {
    const size_t end = std::min(names.find(','), names.size());
    all += ",!--no-" + std::string(names.substr(2, end - 2));
    names.remove_prefix(std::min(end + 1, names.size()));
  }
  return all;
}

bool IsHarmless(std::string_view harmless, std::string_view value) {
  if (harmless == "*") return true;
  while (!harmless.empty()) {
    const size_t end = std::min(harmless.find(' '), harmless.size());
    if (harmless.substr(0, end) == value) return true;
    harmless.remove_prefix(std::min(end + 1, harmless.size()));
  }
  return value.empty();
}

}  // namespace

void ForeignFlags::AddTo(CLI::App& parser) {
  for (const ForeignFlag& flag : kForeignFlags) {
    CLI::Option* const option =
        flag.form == Form::kSwitch
            ? parser.add_flag(WithNegations(flag.names), switches_.emplace_back(false))
            : parser.add_option(flag.names, values_.emplace_back());
    option->group("");  // not in --help
    seen_.push_back({&flag, option});
  }
}

Status ForeignFlags::Check() const {
  std::string ignored;
  for (const Seen& seen : seen_) {
    if (seen.option->count() == 0) continue;
    const std::string name = "--" + seen.option->get_lnames()[0];  // get_name() is empty if hidden
    if (seen.flag->form == Form::kSwitch) {
      if (!seen.option->as<bool>()) continue;  // --no-...: off is what we do
      if (seen.flag->harmless[0] == '\0')
        return ParamError(Code::kUnsupported, name, "{} is not supported by this build", name);
    } else {
      const auto value = seen.option->as<std::string>();
      if (!IsHarmless(seen.flag->harmless, value)) {
        const std::string allowed = seen.flag->harmless;
        return ParamError(Code::kUnsupported, name, "{} {} is not supported by this build{}", name,
                          Quoted(value), allowed.empty() ? "" : "; allowed: " + allowed);
      }
    }
    ignored += (ignored.empty() ? "" : ", ") + name;
  }
  if (!ignored.empty()) log::Info("flags without effect here: {}", ignored);
  return Status();
}

}  // namespace sluice
