#include "checkpoint/quantization.h"

#include <algorithm>

namespace sluice {
namespace {

constexpr int64_t kBlockMax = 1 << 20;
constexpr size_t kGroupsMax = 64;

void RefuseOther(FieldReader& read, std::string_view key, std::string_view only,
                 std::string_view otherwise) {
  if (read.String(key, std::string(otherwise)) != only)
    read.Contradiction(key, fmt::format("this build supports only {}", Quoted(only)));
}

void RefuseAny(FieldReader& read, std::string_view key) {
  if (read.Has(key)) read.Contradiction(key, "this build supports only null");
}

void ReadBlock(FieldReader& read, std::string_view key) {
  if (const auto text = read.object().String(key); text.ok() && *text == "128x128") return;
  const std::vector<int64_t> block = read.Ints(key, 1, kBlockMax);
  if (block == std::vector<int64_t>{kScaleBlock, kScaleBlock}) return;
  read.Contradiction(
      key, fmt::format("{}this build supports only [{}, {}]",
                       block.size() == 2 ? fmt::format("namely [{}, {}]; ", block[0], block[1])
                                         : std::string(),
                       kScaleBlock, kScaleBlock));
}

// One group's "weights": e4m3 with the scales that we know.
ScaleScheme ReadWeights(FieldReader& read) {
  if (read.Int("num_bits", 1, 64) != 8)
    read.Contradiction("num_bits", "this build supports only 8");
  RefuseOther(read, "type", "float", "");
  if (!read.Bool("symmetric", true))
    read.Contradiction("symmetric", "this build supports only true");
  if (read.Bool("dynamic", false)) read.Contradiction("dynamic", "this build supports only false");
  RefuseAny(read, "actorder");
  const std::string strategy = read.String("strategy");
  if (strategy == "channel") return ScaleScheme::kChannel;
  if (strategy == "tensor") return ScaleScheme::kTensor;
  if (strategy == "block")
    ReadBlock(read, "block_structure");
  else
    read.Contradiction("strategy",
                       "this build supports only \"channel\", \"block\" and \"tensor\"");
  return ScaleScheme::kBlock;
}

// How activations would be quantised: checked to be fp8, and otherwise without effect.
bool ReadActivations(FieldReader& read) {
  if (!read.Has("input_activations")) return false;
  FieldReader activations(read.Object("input_activations"));
  if (activations.Int("num_bits", 1, 64, 8) != 8)
    activations.Contradiction("num_bits", "this build supports only 8");
  RefuseOther(activations, "type", "float", "float");
  const bool fixed = !activations.Bool("dynamic", false);
  read.Add(activations.status());
  return fixed;
}

QuantizationConfig ReadCompressedTensors(FieldReader& read) {
  QuantizationConfig out;
  RefuseOther(read, "format", "float-quantized", "");
  RefuseAny(read, "kv_cache_scheme");
  if (read.Has("sparsity_config")) {
    FieldReader sparsity(read.Object("sparsity_config"));
    RefuseOther(sparsity, "format", "dense", "dense");
    read.Add(sparsity.status());
  }
  if (read.Has("transform_config") && !read.Object("transform_config").Keys().empty())
    read.Contradiction("transform_config", "this build supports only an empty one");
  const JsonObject groups = read.Object("config_groups");
  std::vector<std::string> names = groups.Keys();
  if (names.size() > kGroupsMax) {
    read.Contradiction("config_groups", fmt::format("allowed are {} groups", kGroupsMax));
    names.clear();
  }
  std::vector<std::string> targets;
  bool any = false;
  for (const std::string& name : names) {
    const Result<JsonObject> object = groups.Object(name);
    if (!object.ok()) {
      read.Add(object.status());
      continue;
    }
    FieldReader group(*object);
    if (!group.Has("weights")) continue;  // of activations or the cache only
    RefuseOther(group, "format", "float-quantized", "float-quantized");
    FieldReader weights(group.Object("weights"));
    const ScaleScheme scheme = ReadWeights(weights);
    group.Add(weights.status());
    RefuseAny(group, "output_activations");
    out.static_activations |= ReadActivations(group);
    for (std::string& target : group.Strings("targets")) targets.push_back(std::move(target));
    read.Add(group.status());
    if (!any) out.scheme = scheme;  // the tensors say which matrix has which
    any = true;
  }
  if (!any && read.status().ok())
    read.Contradiction("config_groups", "allowed is an object with at least one group of weights");
  out.all_linear =
      targets.empty() || std::find(targets.begin(), targets.end(), "Linear") != targets.end();
  out.targets = ModuleNames(targets);
  out.ignored = ModuleNames(read.Strings("ignore"));
  return out;
}

QuantizationConfig ReadFp8(FieldReader& read) {
  QuantizationConfig out;
  out.scheme = ScaleScheme::kBlock;
  out.scale_suffix = "_scale_inv";
  RefuseOther(read, "fmt", "e4m3", "e4m3");
  ReadBlock(read, "weight_block_size");
  const std::string activations = read.String("activation_scheme", "dynamic");
  out.static_activations = activations == "static";
  if (activations != "dynamic" && activations != "static")
    read.Contradiction("activation_scheme",
                       "this build supports only \"dynamic\" and \"static\", both as bfloat16");
  std::vector<std::string> ignored = read.Strings("ignored_layers");
  for (std::string& name : read.Strings("modules_to_not_convert"))
    ignored.push_back(std::move(name));
  ignored.emplace_back("lm_head");  // which this method never touches
  out.ignored = ModuleNames(ignored);
  return out;
}

Result<QuantizationConfig> ReadOne(const JsonObject& object, std::string_view default_method) {
  FieldReader read(object);
  QuantizationConfig out;
  const std::string method = read.String("quant_method", std::string(default_method));
  if (method == "compressed-tensors" || method == "compressed_tensors")
    out = ReadCompressedTensors(read);
  else if (method == "fp8")
    out = ReadFp8(read);
  else
    read.Contradiction("quant_method",
                       "this build supports only \"compressed-tensors\" and \"fp8\"");
  RETURN_IF_ERROR(read.status());
  return out;
}

}  // namespace

bool QuantizationConfig::Quantizes(std::string_view tensor) const {
  constexpr std::string_view kSuffix = ".weight";
  if (!tensor.ends_with(kSuffix)) return false;
  tensor.remove_suffix(kSuffix.size());
  return (all_linear || targets.Match(tensor)) && !ignored.Match(tensor);
}

Result<std::optional<QuantizationConfig>> QuantizationConfig::Read(const JsonObject& config) {
  // The second name comes from a library that writes one method only.
  constexpr std::pair<const char*, const char*> kKeys[] = {
      {"quantization_config", ""}, {"compression_config", "compressed-tensors"}};
  std::optional<QuantizationConfig> found;
  for (const auto& [key, default_method] : kKeys) {
    if (!config.Has(key)) continue;
    TRY(const JsonObject object, config.Object(key));
    TRY(QuantizationConfig read, ReadOne(object, default_method));
    if (found && *found != read)
      return config.Contradiction(key, "it says something else than quantization_config");
    found = std::move(read);
  }
  return found;
}

}  // namespace sluice
