#include "cli/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <set>

#include "base/machine.h"
#include "base/units.h"
#include "checkpoint/checkpoint.h"
#include "models/registry.h"

namespace sluice {
namespace {

// "model.layers.17.mlp.experts.3.up_proj.weight" ->
// "model.layers.{}.mlp.experts.{}.up_proj.weight".
std::string Pattern(const std::string& name) {
  std::string out;
  for (size_t i = 0; i < name.size();) {
    if (i > 0 && name[i - 1] == '.' && std::isdigit(static_cast<unsigned char>(name[i]))) {
      while (i < name.size() && std::isdigit(static_cast<unsigned char>(name[i]))) ++i;
      out += "{}";
    } else {
      out += name[i++];
    }
  }
  return out;
}

uint64_t Elements(const std::vector<int64_t>& shape) {
  uint64_t count = 1;
  for (const int64_t dim : shape) count *= static_cast<uint64_t>(dim);
  return count;
}

void PrintTensors(const ModelDescription& model, bool all) {
  struct Group {
    size_t first;  // order of appearance
    uint64_t count = 0, elements = 0;
  };
  std::map<std::string, Group> groups;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const WeightRow& row = model.tensors[i];
    std::string key = all ? row.name : Pattern(row.name);
    key += fmt::format(" [{}]{}{}", fmt::join(row.shape, ", "),
                       row.dtypes == DTypes{DType::kF8E4M3} ? "  fp8" : "",
                       row.required ? "" : "  (optional)");
    Group& group = groups.try_emplace(key, Group{.first = i}).first->second;
    ++group.count;
    group.elements += Elements(row.shape);
  }
  std::vector<std::pair<std::string, Group>> sorted(groups.begin(), groups.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.second.first < b.second.first; });
  fmt::print("\ntensors\n");
  for (const auto& [name, group] : sorted)
    fmt::print("  {:<64} {:>7} x {:>9}\n", name, group.count,
               FormatCount(group.elements / group.count));
}

// What the files say of themselves; false if they do not fit the model.
bool PrintFiles(const ModelDescription& model) {
  if (!model.has_weights) {
    fmt::print("\nno weights here: --load-format dummy makes random ones\n");
    return true;
  }
  const auto checkpoint = Checkpoint::Open(model.directory);
  if (!checkpoint.ok()) {
    fmt::print("\nweights cannot be read: {}\n", checkpoint.status().message());
    return false;
  }
  std::set<std::string> dtypes;
  for (const TensorInfo& tensor : checkpoint->tensors())
    dtypes.insert(std::string(DTypeName(tensor.dtype)));
  fmt::print("\nfiles: {} with {} tensors, {} ({})\n", checkpoint->files().size(),
             checkpoint->tensors().size(), FormatBytes(checkpoint->data_bytes()),
             fmt::join(dtypes, ", "));
  const Status status = CheckFiles(model, *checkpoint);
  if (!status.ok()) fmt::print("{}\n", status.message());
  return status.ok();
}

void PrintMemory(const ModelDescription& model, const InspectOptions& options) {
  const int64_t context = options.context > 0 ? options.context : model.info.max_position;
  const int64_t pages = CeilDiv(context, kPageTokens);
  const uint64_t kv = static_cast<uint64_t>(options.concurrency * pages) *
                      static_cast<uint64_t>(model.cache.PageBytes());
  const uint64_t states =
      static_cast<uint64_t>(options.concurrency) * static_cast<uint64_t>(model.cache.SlotBytes());
  const uint64_t total = model.info.weight_bytes + kv + states;
  fmt::print("\nmemory at {} requests of {} tokens\n", options.concurrency, context);
  fmt::print("  weights                {:>12}\n", FormatBytes(model.info.weight_bytes));
  fmt::print("  KV pages               {:>12}   {} a token\n", FormatBytes(kv),
             FormatBytes(static_cast<uint64_t>(model.cache.PageBytes() / kPageTokens)));
  fmt::print("  recurrent states       {:>12}   {} a request\n", FormatBytes(states),
             FormatBytes(static_cast<uint64_t>(model.cache.SlotBytes())));
  fmt::print("  together               {:>12}   this machine allows {}\n", FormatBytes(total),
             FormatBytes(MemoryLimitBytes()));
  fmt::print("  and the scratch memory of a step, which `sluice serve` shows at its start\n");
}

}  // namespace

int RunInspect(const InspectOptions& options) {
  ModelLoadOptions load;
  load.model_path = options.model_path;
  load.dtype = options.dtype;
  load.config_overrides = options.config_overrides;
  load.quantization = options.quantization;
  const auto model = DescribeModel(load);
  if (!model.ok()) {
    fmt::print(stderr, "sluice inspect: {}\n", model.status().message());
    return 2;
  }
  const ModelInfo& info = model->info;
  fmt::print("{}\n", model->config_path);
  fmt::print("  architecture           {} ({})\n", info.architecture, info.model_type);
  fmt::print("  layers                 {} ({} linear attention, {} full attention)\n", info.layers,
             info.linear_layers, info.layers - info.linear_layers);
  fmt::print("  hidden, vocabulary     {}, {}\n", info.hidden_size, info.vocab_size);
  fmt::print("  context                {}\n", info.max_position);
  fmt::print("  parameters             {} ({} active a token)\n", FormatCount(info.parameters),
             FormatCount(info.active_parameters));
  fmt::print("  matrices               {}\n", model->stored.Text());
  PrintTensors(*model, options.all_tensors);
  const bool fits = PrintFiles(*model);
  PrintMemory(*model, options);
  return fits ? 0 : 2;
}

}  // namespace sluice
