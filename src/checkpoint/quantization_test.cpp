#include "checkpoint/quantization.h"

#include <gmock/gmock.h>

#include <chrono>

namespace sluice {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::SizeIs;

Result<std::optional<QuantizationConfig>> Read(const std::string& text) {
  auto config = JsonObject::Parse(text, "config.json");
  EXPECT_TRUE(config.ok()) << config.status().message();
  return QuantizationConfig::Read(*config);
}

// A whole compressed-tensors config with `weights` and `rest` put in.
std::string Compressed(const std::string& weights, const std::string& rest = "") {
  return R"({"quantization_config": {"quant_method": "compressed-tensors",
      "format": "float-quantized", "config_groups": {"group_0": {"targets": ["Linear"],
      "weights": {"num_bits": 8, "type": "float", "symmetric": true, "dynamic": false, )" +
         weights + "}}}" + rest + "}}";
}

const std::string kChannel = R"("strategy": "channel")";

std::string Fp8(const std::string& rest) {
  return R"({"quantization_config": {"quant_method": "fp8")" + rest + "}}";
}

const std::string kBlocks = R"(, "weight_block_size": [128, 128])";

TEST(QuantizationConfig, IsAbsentWithoutItsKeys) {
  const auto read = Read(R"({"hidden_size": 7, "quantization_config": null})");
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_FALSE(read->has_value());
}

TEST(QuantizationConfig, ReadsCompressedTensorsOfEachStrategy) {
  const auto channel = Read(Compressed(kChannel, R"(, "ignore": ["lm_head"])"));
  ASSERT_TRUE(channel.ok()) << channel.status().message();
  EXPECT_EQ((*channel)->scheme, ScaleScheme::kChannel);
  EXPECT_EQ((*channel)->scale_suffix, "_scale");
  EXPECT_FALSE((*channel)->static_activations);
  EXPECT_TRUE((*channel)->Quantizes("model.layers.1.attention.dense.weight"));
  EXPECT_FALSE((*channel)->Quantizes("model.layers.1.attention.dense.bias"));
  EXPECT_FALSE((*channel)->Quantizes("lm_head.weight"));
  EXPECT_EQ((*Read(Compressed(R"("strategy": "tensor")")))->scheme, ScaleScheme::kTensor);
  for (const char* block : {"[128, 128]", "\"128x128\""})
    EXPECT_EQ(
        (*Read(Compressed(fmt::format(R"("strategy": "block", "block_structure": {})", block))))
            ->scheme,
        ScaleScheme::kBlock);
}

TEST(QuantizationConfig, ReadsBlockFp8WithBothNamesOfItsIgnoreList) {
  const auto read = Read(Fp8(kBlocks + R"(, "fmt": "e4m3", "activation_scheme": "dynamic",
      "ignored_layers": ["model.layers.0.mlp.gate"], "modules_to_not_convert": ["eh_proj"])"));
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ((*read)->scheme, ScaleScheme::kBlock);
  EXPECT_EQ((*read)->scale_suffix, "_scale_inv");
  EXPECT_FALSE((*read)->Quantizes("model.layers.0.mlp.gate.weight"));
  EXPECT_FALSE((*read)->Quantizes("model.layers.4.eh_proj.weight"));
  EXPECT_FALSE((*read)->Quantizes("lm_head.weight"));
  EXPECT_TRUE((*read)->Quantizes("model.layers.1.mlp.gate.weight"));
}

TEST(QuantizationConfig, StaticActivationScalesAreKnownOf) {
  EXPECT_TRUE((*Read(Fp8(kBlocks + R"(, "activation_scheme": "static")")))->static_activations);
  const std::string group = R"({"quantization_config": {"quant_method": "compressed_tensors",
      "format": "float-quantized", "config_groups": {"g": {"targets": ["Linear"],
      "weights": {"num_bits": 8, "type": "float", "strategy": "tensor"},
      "input_activations": {"num_bits": 8, "type": "float", "dynamic": )";
  EXPECT_TRUE((*Read(group + "false}}}}}"))->static_activations);
  EXPECT_FALSE((*Read(group + "true}}}}}"))->static_activations);
}

TEST(QuantizationConfig, TakesBothKeysIfTheyAgree) {
  const std::string one = Compressed(kChannel);
  const std::string object = one.substr(one.find(':') + 1, one.rfind('}') - one.find(':') - 1);
  const std::string method = R"("quant_method": "compressed-tensors",)";
  std::string other = object;  // the second key may leave the method out
  other.erase(other.find(method), method.size());
  const auto alone = Read(R"({"compression_config": )" + other + "}");
  ASSERT_TRUE(alone.ok()) << alone.status().message();
  EXPECT_EQ((*alone)->scheme, ScaleScheme::kChannel);
  EXPECT_TRUE(
      Read(R"({"quantization_config": )" + object + R"(, "compression_config": )" + other + "}")
          .ok());
  other.replace(other.find("channel"), 7, "tensor");
  const auto both =
      Read(R"({"quantization_config": )" + object + R"(, "compression_config": )" + other + "}");
  ASSERT_FALSE(both.ok());
  EXPECT_EQ(both.status().param(), "compression_config");
  EXPECT_THAT(both.status().message(), HasSubstr("something else than quantization_config"));
}

struct Refusal {
  std::string config;
  const char* param;
  const char* says;
};

TEST(QuantizationConfig, RefusesEveryOtherSchemeByFieldValueAndValuesAllowed) {
  const Refusal kRefusals[] = {
      {R"({"quantization_config": {}})", "quant_method", "quant_method is missing"},
      {R"({"quantization_config": "fp8"})", "quantization_config", "is \"fp8\", allowed are obj"},
      {R"({"quantization_config": {"quant_method": 8}})", "quant_method", "allowed are strings"},
      {R"({"quantization_config": {"quant_method": "gptq", "bits": 4}})", "quant_method",
       "is \"gptq\", this build supports only \"compressed-tensors\" and \"fp8\""},
      {R"({"compression_config": {"quant_method": "awq"}})", "quant_method", "\"awq\""},
      {Fp8(""), "weight_block_size", "is missing, this build supports only [128, 128]"},
      {Fp8(R"(, "weight_block_size": [64, 128])"), "weight_block_size", "namely [64, 128]"},
      {Fp8(R"(, "weight_block_size": [128])"), "weight_block_size", "an array of 1"},
      {Fp8(R"(, "weight_block_size": [128, -1])"), "weight_block_size", "integers from 1"},
      {Fp8(kBlocks + R"(, "fmt": "e5m2")"), "fmt", "is \"e5m2\", this build supports only"},
      {Fp8(kBlocks + R"(, "activation_scheme": "none")"), "activation_scheme", "\"none\""},
      {Fp8(kBlocks + R"(, "ignored_layers": [1])"), "ignored_layers", "strings"},
      {R"({"quantization_config": {"quant_method": "compressed-tensors",
           "format": "pack-quantized", "config_groups": {}}})",
       "format", "is \"pack-quantized\", this build supports only \"float-quantized\""},
      {R"({"quantization_config": {"quant_method": "compressed-tensors",
           "format": "float-quantized", "config_groups": {}}})",
       "config_groups", "at least one group"},
      {R"({"quantization_config": {"quant_method": "compressed-tensors",
           "format": "float-quantized"}})",
       "config_groups", "is missing"},
      {R"({"quantization_config": {"quant_method": "compressed-tensors",
           "format": "float-quantized", "config_groups": {"g": 7}}})",
       "g", "allowed are objects"},
      {Compressed(R"("strategy": "group", "group_size": 64)"), "strategy",
       "is \"group\", this build supports only \"channel\", \"block\" and \"tensor\""},
      {Compressed(R"("group_size": 64)"), "strategy", "is missing"},
      {Compressed(R"("strategy": "block")"), "block_structure", "is missing"},
      {Compressed(R"("strategy": "block", "block_structure": [1, 128])"), "block_structure",
       "namely [1, 128]"},
      {Compressed(R"("strategy": "block", "block_structure": "64x64")"), "block_structure",
       "\"64x64\""},
      {Compressed(kChannel + R"(, "actorder": "group")"), "actorder", "only null"},
      {Compressed(kChannel, R"(, "kv_cache_scheme": {"num_bits": 8})"), "kv_cache_scheme",
       "only null"},
      {Compressed(kChannel, R"(, "sparsity_config": {"format": "sparse-24-bitmask"})"), "format",
       "sparsity_config: format is \"sparse-24-bitmask\""},
      {Compressed(kChannel, R"(, "transform_config": {"config_groups": {}})"), "transform_config",
       "only an empty one"},
      {Compressed(kChannel, R"(, "ignore": {"a": 1})"), "ignore", "strings"},
  };
  for (const Refusal& refusal : kRefusals) {
    const auto read = Read(refusal.config);
    ASSERT_FALSE(read.ok()) << refusal.config;
    EXPECT_EQ(read.status().param(), refusal.param) << read.status().message();
    EXPECT_THAT(read.status().message(),
                AllOf(HasSubstr("config.json"), HasSubstr(refusal.param), HasSubstr(refusal.says)))
        << refusal.config;
  }
}

TEST(QuantizationConfig, RefusesOtherNumbersThanEightBitFloats) {
  const struct {
    const char *from, *to, *param;
  } kEdits[] = {
      {"\"num_bits\": 8", "\"num_bits\": 4", "num_bits"},
      {"\"num_bits\": 8", "\"num_bits\": 8.5", "num_bits"},
      {"\"num_bits\": 8, ", "", "num_bits"},
      {"\"type\": \"float\"", "\"type\": \"int\"", "type"},
      {"\"type\": \"float\", ", "", "type"},
      {"\"symmetric\": true", "\"symmetric\": false", "symmetric"},
      {"\"dynamic\": false", "\"dynamic\": true", "dynamic"},
  };
  for (const auto& edit : kEdits) {
    std::string text = Compressed(kChannel);
    text.replace(text.find(edit.from), std::string_view(edit.from).size(), edit.to);
    const auto read = Read(text);
    ASSERT_FALSE(read.ok()) << text;
    EXPECT_EQ(read.status().param(), edit.param) << read.status().message();
  }
}

TEST(ModuleNames, MatchWholeComponentsOfAPath) {
  const ModuleNames names({"lm_head", "mlp.gate", "model.layers.80", ""});
  for (const char* module : {"lm_head", "model.lm_head", "model.layers.3.mlp.gate", "mlp.gate",
                             "model.layers.80", "model.layers.80.attention.dense"})
    EXPECT_TRUE(names.Match(module)) << module;
  for (const char* module : {"", "lm_heads", "my_lm_head", "model.layers.3.mlp.gate_proj",
                             "model.layers.8.attention.dense", "model.layers.3.mlp", ".", ".."})
    EXPECT_FALSE(names.Match(module)) << module;
}

TEST(ModuleNames, ExpressionsMatchFromTheStart) {
  const ModuleNames names({"re:.*mlp\\.gate$", R"(re:model\.layers\.(79|80)\.)", "re:lm"});
  for (const char* module :
       {"model.layers.3.mlp.gate", "model.layers.80.eh_proj", "model.layers.79.x", "lm_head"})
    EXPECT_TRUE(names.Match(module)) << module;
  for (const char* module : {"model.layers.3.mlp.gate_proj", "model.layers.8.eh_proj", "a.lm_head"})
    EXPECT_FALSE(names.Match(module)) << module;
  EXPECT_THAT(names.unused(), SizeIs(0));
}

TEST(ModuleNames, ExpressionsThatCannotBeUsedAreListedAndMatchNothing) {
  const ModuleNames names({"re:(?!.*expert).*", "re:(", "re:(a)\\1", "re:((a{500}){500}){500}",
                           "re:" + std::string(20'000, 'a'), "re:gate"});
  EXPECT_THAT(names.unused(), SizeIs(5));
  for (const std::string& text : names.unused()) EXPECT_LT(text.size(), 500u);
  EXPECT_TRUE(names.Match("gate"));
  EXPECT_FALSE(names.Match("a"));
  EXPECT_THAT(ModuleNames(std::vector<std::string>(5000, "re:a")).unused(),
              SizeIs(kModuleExpressionsMax));
}

TEST(ModuleNames, HostileExpressionsStopNobody) {
  const auto start = std::chrono::steady_clock::now();
  const ModuleNames names({"re:(a*)*b", "re:(a|a)*c", "re:(a|aa)+$d", "re:(x+x+)+y",
                           "re:((((a{1,9}){1,9}){1,3}){1,3})z"});
  const std::string module(2000, 'a');
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(names.Match(module));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

}  // namespace
}  // namespace sluice
