#include "cli/memory_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "checkpoint/model_path.h"
#include "memory/budget.h"
#include "models/registry.h"

namespace sluice {
namespace {

// A scale for each output: what Ling-2.6-1T's fp8 release has. Block scales add 0.02 %.
constexpr const char* kFp8 = R"({"quantization_config": {"quant_method": "compressed-tensors",
    "format": "float-quantized", "ignore": ["lm_head"], "config_groups": {"group_0": {
    "targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel",
    "symmetric": true, "dynamic": false}}}}})";

constexpr uint64_t kMachinesGib[] = {8,   16,  24,  32,  48,   64,   96,   128,  192,
                                     256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096};
constexpr int64_t kContextDefault = 32768;

Result<ModelDescription> Describe(const std::string& model, const char* overrides,
                                  const char* quantization = "none") {
  ModelLoadOptions options;
  options.model_path = model;
  options.config_overrides = overrides;
  options.quantization.format = quantization;
  return DescribeModel(options);
}

// The smallest usual machine whose default share for weights and pools holds `bytes`.
std::string Machine(uint64_t bytes) {
  const double share = BudgetInput().static_fraction;
  for (const uint64_t gib : kMachinesGib)
    if (static_cast<double>(bytes) <= share * static_cast<double>(gib << 30))
      return FormatBytes(gib << 30);
  return "-";
}

// The row of one model; false if it cannot be read.
bool PrintRow(const std::string& name, const MemoryTableOptions& options) {
  const auto bf16 = Describe(name, ""), fp8 = Describe(name, kFp8),
             int4 = Describe(name, "", "int4");
  for (const auto* described : {&bf16, &fp8, &int4})
    if (!described->ok()) {
      fmt::print(stderr, "sluice inspect: {}\n", described->status().message());
      return false;
    }
  const CacheLayout& cache = bf16->cache;
  const int64_t context =
      options.context > 0 ? options.context : std::min(kContextDefault, bf16->info.max_position);
  const int64_t request = CeilDiv(context, kPageTokens) * cache.PageBytes() + cache.SlotBytes();
  const auto pools = static_cast<uint64_t>(options.concurrency * request);
  fmt::print("| {} | {} ({}) | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n", name,
             FormatCount(bf16->info.parameters), FormatCount(bf16->info.active_parameters),
             FormatBytes(bf16->info.weight_bytes), FormatBytes(fp8->info.weight_bytes),
             FormatBytes(int4->info.weight_bytes),
             FormatBytes(static_cast<uint64_t>(cache.PageBytes() / kPageTokens)),
             cache.SlotBytes() == 0 ? "-" : FormatBytes(static_cast<uint64_t>(cache.SlotBytes())),
             FormatBytes(pools), Machine(bf16->info.weight_bytes + pools),
             Machine(fp8->info.weight_bytes + pools), Machine(int4->info.weight_bytes + pools));
  return true;
}

}  // namespace

int PrintMemoryTable(const MemoryTableOptions& options) {
  std::vector<std::string> models = options.models;
  if (models.empty()) {
    models = ShippedGeometries();
    std::erase_if(models, [](const std::string& name) { return name.starts_with("tiny"); });
  }
  const std::string request =
      options.context > 0 ? fmt::format("{} tokens", options.context) : "32,768 tokens (or all)";
  fmt::print(
      "| model | parameters (active) | weights bf16 | fp8, int8 | int4 | KV a token "
      "| state a request | {} x {} | bf16 fits in | fp8, int8 fits in | int4 fits in |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
      options.concurrency, request);
  bool all = true;
  for (const std::string& model : models) all &= PrintRow(model, options);
  return all ? 0 : 2;
}

}  // namespace sluice
