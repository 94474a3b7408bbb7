// Whole checkpoints of each weight format (bf16, fp8 a channel, fp8 a block), damaged: what is
// structurally wrong must be refused with the name of what is wrong, and nothing may crash.
// Another start: checkpoint_faults_test --seed=N.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <limits>
#include <ostream>

#include "base/random.h"
#include "base/team.h"
#include "checkpoint/safetensors_builder.h"
#include "models/registry.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;

uint64_t first_seed = 1;  // set by main

constexpr int kCorruptions = 200;  // of each format

// A hybrid of two layers with blocks that are incomplete on every side.
constexpr std::string_view kConfig = R"({
  "architectures": ["BailingMoeV2_5ForCausalLM"], "vocab_size": 96, "hidden_size": 144,
  "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32,
  "layer_group_size": 2, "group_norm_size": 2, "intermediate_size": 152, "q_lora_rank": 24,
  "kv_lora_rank": 40, "qk_nope_head_dim": 24, "qk_rope_head_dim": 8, "v_head_dim": 24,
  "num_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
  "moe_intermediate_size": 40, "first_k_dense_replace": 1, "eos_token_id": 1,
  "moe_router_enable_expert_bias": true, "max_position_embeddings": 256)";

constexpr std::string_view kChannel = R"(, "quantization_config": {
  "quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
  "config_groups": {"group_0": {"targets": ["Linear"],
    "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": true}}}})";

constexpr std::string_view kBlock = R"(, "quantization_config": {
  "quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]})";

struct Format {
  const char* name;
  std::string_view config;
};
void PrintTo(const Format& format, std::ostream* out) { *out << format.name; }
constexpr Format kFormats[] = {{"bf16", ""}, {"channel", kChannel}, {"block", kBlock}};

// A tensor of a file that may lie about it.
struct Tensor {
  std::string name, dtype;
  std::vector<int64_t> shape;
  std::string data;
  int64_t begin = 0, end = 0;  // what the header says
};

struct File {
  std::vector<Tensor> tensors;
  std::string data;

  // Offsets that tell the truth.
  void Lay() {
    data.clear();
    for (Tensor& t : tensors) {
      t.begin = static_cast<int64_t>(data.size());
      data += t.data;
      t.end = static_cast<int64_t>(data.size());
    }
  }
  std::string Bytes() const {
    std::string header;
    for (const Tensor& t : tensors)
      header += fmt::format(R"({}"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                            header.empty() ? "{" : ",", t.name, t.dtype, fmt::join(t.shape, ","),
                            t.begin, t.end);
    return SafetensorsFile(header + "}", data);
  }
};

struct Directory {
  Directory() {
    std::string name = testing::TempDir() + "checkpoint_faults_XXXXXX";
    path = mkdtemp(name.data());
  }
  ~Directory() { std::filesystem::remove_all(path); }
  std::string path;
};

Status Load(const std::string& directory, const std::string& overrides = "") {
  Team team(2);
  ModelLoadOptions options;
  options.model_path = directory;
  options.config_overrides = overrides;
  options.show_progress = false;
  return LoadModel(options, team).status();
}

// A right checkpoint: every tensor of the table with random values.
File MakeFile(const Format& format, const std::string& directory) {
  const std::string text = fmt::format("{}{}}}", kConfig, format.config);
  WriteTo(directory + "/config.json", text);
  ModelLoadOptions options;
  options.model_path = directory;
  options.load_format = "dummy";
  const auto described = DescribeModel(options);
  EXPECT_TRUE(described.ok()) << described.status().message();
  const auto config = QuantizationConfig::Read(*JsonObject::Parse(text, "config.json"));
  EXPECT_TRUE(config.ok()) << config.status().message();
  const auto source = DummySource(7, *config);
  std::vector<std::byte> scratch;
  File file;
  for (const WeightRow& row : described->tensors) {
    if (!row.required) continue;
    const Status status = source->Visit(row, scratch, [&](const TensorData& data) {
      file.tensors.push_back(
          {row.name,
           std::string(DTypeName(data.dtype)),
           row.shape,
           {reinterpret_cast<const char*>(data.data), static_cast<size_t>(data.bytes())}});
      return Status();
    });
    EXPECT_TRUE(status.ok()) << status.message();
  }
  file.Lay();
  return file;
}

bool IsScale(const Tensor& t) {
  return t.name.ends_with("_scale") || t.name.ends_with("_scale_inv");
}

template <class T>
void Put(Tensor& t, size_t element, T value) {
  std::memcpy(t.data.data() + element * sizeof(T), &value, sizeof(T));
}

// One lie about one tensor. Returns the name that the refusal must have.
using Lie = std::string (*)(File& file, Tensor& t, SplitMix64& random);

std::string Remove(File& file, Tensor& t, SplitMix64&) {
  const std::string name = t.name;
  file.tensors.erase(file.tensors.begin() + (&t - file.tensors.data()));
  file.Lay();
  return name;
}
std::string Rename(File& file, Tensor& t, SplitMix64&) {
  const std::string name = t.name;
  t.name += "s";
  file.Lay();
  return name;
}
std::string Duplicate(File& file, Tensor& t, SplitMix64&) {
  const Tensor copy = t;
  file.tensors.push_back(copy);
  file.Lay();
  return copy.name;
}
std::string Grow(File& file, Tensor& t, SplitMix64&) {  // a row more, with its bytes
  const size_t row = t.data.size() / static_cast<size_t>(t.shape[0]);
  t.data += t.data.substr(0, row);
  ++t.shape[0];
  file.Lay();
  return t.name;
}
std::string Transpose(File& file, Tensor& t, SplitMix64&) {
  std::reverse(t.shape.begin(), t.shape.end());
  if (t.shape.size() == 1 || t.shape[0] == t.shape[1]) t.shape.push_back(1);
  if (t.shape.size() == 2 && t.shape == std::vector<int64_t>{1, 1}) t.shape = {1, 1, 1};
  file.Lay();
  return t.name;
}
std::string WrongCount(File&, Tensor& t, SplitMix64&) {  // shape and bytes disagree
  ++t.shape[0];
  return t.name;
}
std::string HugeShape(File&, Tensor& t, SplitMix64&) {
  t.shape = {int64_t{1} << 40, int64_t{1} << 40};
  return t.name;
}
std::string NegativeShape(File&, Tensor& t, SplitMix64&) {
  t.shape[0] = -t.shape[0];
  return t.name;
}
std::string OtherDType(File&, Tensor& t, SplitMix64&) {  // of the same width
  t.dtype = t.dtype == "F8_E4M3" ? "I8" : t.dtype == "BF16" ? "I16" : "I32";
  return t.name;
}
std::string UnknownDType(File&, Tensor& t, SplitMix64&) {
  t.dtype = "F8_E5M3";
  return t.name;
}
std::string Reverse(File&, Tensor& t, SplitMix64&) {
  std::swap(t.begin, t.end);
  return t.name;
}
std::string PastTheEnd(File& file, Tensor& t, SplitMix64&) {
  t.begin += static_cast<int64_t>(file.data.size());
  t.end += static_cast<int64_t>(file.data.size());
  return t.name;
}
std::string Shift(File&, Tensor& t, SplitMix64&) {  // overlaps one neighbour, leaves a hole
  t.begin += 1;
  t.end += 1;
  return t.name;
}
std::string NonFinite(File& file, Tensor& t, SplitMix64& random) {
  const auto count = t.data.size();
  if (t.dtype == "F8_E4M3")
    Put<uint8_t>(t, random.Next() % count, random.Next() % 2 ? 0x7F : 0xFF);
  else if (t.dtype == "BF16")
    Put<uint16_t>(t, random.Next() % (count / 2), random.Next() % 2 ? 0x7F80 : 0xFFC1);
  else
    Put(t, random.Next() % (count / 4), std::numeric_limits<float>::infinity());
  file.Lay();
  return t.name;
}
std::string BadScale(File& file, Tensor& t, SplitMix64& random) {
  Tensor* scale = &t;
  if (!IsScale(t)) {  // any scale, or a matrix of bf16
    std::vector<Tensor*> scales;
    for (Tensor& other : file.tensors)
      if (IsScale(other)) scales.push_back(&other);
    if (scales.empty()) return NonFinite(file, t, random);
    scale = scales[random.Next() % scales.size()];
  }
  const size_t width = scale->dtype == "BF16" ? 2 : 4;
  const size_t element = random.Next() % (scale->data.size() / width);
  const float value = random.Next() % 2 ? -1.0f : 0.0f;
  if (width == 2)
    Put(*scale, element, ToBf16(value));
  else
    Put(*scale, element, value);
  file.Lay();
  return scale->name;
}

constexpr struct {
  const char* name;
  Lie tell;
} kLies[] = {
    {"remove", Remove},
    {"rename", Rename},
    {"duplicate", Duplicate},
    {"grow", Grow},
    {"transpose", Transpose},
    {"wrong count", WrongCount},
    {"huge", HugeShape},
    {"negative", NegativeShape},
    {"other dtype", OtherDType},
    {"unknown dtype", UnknownDType},
    {"reverse", Reverse},
    {"past the end", PastTheEnd},
    {"shift", Shift},
    {"non-finite", NonFinite},
    {"bad scale", BadScale},
};

class Formats : public testing::TestWithParam<Format> {};
INSTANTIATE_TEST_SUITE_P(, Formats, testing::ValuesIn(kFormats),
                         [](const auto& test) { return std::string(test.param.name); });

TEST_P(Formats, TheUndamagedFileLoads) {
  Directory directory;
  const File file = MakeFile(GetParam(), directory.path);
  WriteTo(directory.path + "/model.safetensors", file.Bytes());
  const Status status = Load(directory.path);
  EXPECT_TRUE(status.ok()) << status.message();
}

TEST_P(Formats, EveryLieAboutATensorIsRefusedByItsName) {
  Directory directory;
  const File right = MakeFile(GetParam(), directory.path);
  for (int i = 0; i < kCorruptions; ++i) {
    const uint64_t seed = first_seed + static_cast<uint64_t>(i);
    SplitMix64 random(seed);
    const auto& lie = kLies[static_cast<size_t>(i) % std::size(kLies)];
    File file = right;
    Tensor& t = file.tensors[random.Next() % file.tensors.size()];
    const std::string what = fmt::format("seed {}: {} of {}", seed, lie.name, t.name);
    const std::string name = lie.tell(file, t, random);
    WriteTo(directory.path + "/model.safetensors", file.Bytes());
    const Status status = Load(directory.path);
    ASSERT_FALSE(status.ok()) << what;
    EXPECT_EQ(status.code(), Code::kBadCheckpoint) << what << "\n" << status.message();
    EXPECT_THAT(status.message(), HasSubstr(name)) << what;
  }
}

TEST_P(Formats, FlippedBitsEndInAModelOrARefusal) {
  Directory directory;
  const File right = MakeFile(GetParam(), directory.path);
  const std::string bytes = right.Bytes();
  const size_t header = bytes.size() - right.data.size();
  int refused = 0;
  for (int i = 0; i < kCorruptions; ++i) {
    const uint64_t seed = first_seed + static_cast<uint64_t>(i);
    SplitMix64 random(seed);
    std::string damaged = bytes;
    // Half of them in the header, where a bit means most; some also cut the file.
    for (uint64_t flips = 1 + random.Next() % 3; flips > 0; --flips) {
      const size_t at = random.Next() % (i % 2 ? header : bytes.size());
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << random.Next() % 8));
    }
    if (i % 10 == 9) damaged.resize(random.Next() % damaged.size());
    WriteTo(directory.path + "/model.safetensors", damaged);
    const Status status = Load(directory.path);
    if (status.ok()) continue;
    ++refused;
    EXPECT_THAT(status.message(), HasSubstr(directory.path)) << "seed " << seed;
    EXPECT_EQ(status.code(), Code::kBadCheckpoint) << "seed " << seed << ": " << status.message();
  }
  EXPECT_GT(refused, kCorruptions / 4);
  EXPECT_LT(refused, kCorruptions);
}

TEST_P(Formats, TruncatedAndOverlongFilesAreRefusedWithTheBytes) {
  Directory directory;
  const File right = MakeFile(GetParam(), directory.path);
  const std::string path = directory.path + "/model.safetensors";
  WriteTo(path, right.Bytes().substr(0, right.Bytes().size() - 3));
  EXPECT_THAT(Load(directory.path).message(), AllOf(HasSubstr(path), HasSubstr("3")));
  WriteTo(path, right.Bytes() + "xyzw");
  EXPECT_THAT(Load(directory.path).message(), AllOf(HasSubstr(path), HasSubstr("4")));
}

TEST_P(Formats, ShardsMayPartAMatrixFromItsScaleAndTheIndexMustAgree) {
  Directory directory;
  File right = MakeFile(GetParam(), directory.path), shards[2];
  for (size_t i = 0; i < right.tensors.size(); ++i)
    shards[i % 2].tensors.push_back(right.tensors[i]);
  std::string index;
  for (int s = 0; s < 2; ++s) {
    shards[s].Lay();
    WriteTo(fmt::format("{}/model-0000{}-of-00002.safetensors", directory.path, s + 1),
            shards[s].Bytes());
    for (const Tensor& t : shards[s].tensors)
      index += fmt::format("{}\"{}\":\"model-0000{}-of-00002.safetensors\"",
                           index.empty() ? "" : ",", t.name, s + 1);
  }
  const auto write = [&](const std::string& map) {
    WriteTo(directory.path + "/model.safetensors.index.json", "{\"weight_map\":{" + map + "}}");
    return Load(directory.path);
  };
  const Status status = write(index);
  EXPECT_TRUE(status.ok()) << status.message();
  const std::string last = right.tensors.back().name;
  const size_t entry = index.find("\"" + last + "\"");
  ASSERT_NE(entry, index.npos);
  const size_t end = std::min(index.find(',', entry), index.size());
  const auto with = [&](const std::string& replacement) {
    return std::string(index).replace(entry, end - entry, replacement);
  };
  EXPECT_THAT(write(with("\"" + last + "\":\"absent.safetensors\"")).message(),
              HasSubstr("absent.safetensors"));
  EXPECT_THAT(write(with("\"" + last + "\":\"../model.safetensors\"")).message(),
              HasSubstr("../model.safetensors"));
  EXPECT_THAT(write(with("\"" + last + "\":\"/dev/zero.safetensors\"")).message(),
              HasSubstr("/dev/zero"));
  EXPECT_THAT(write(with("\"x\":\"model-00001-of-00002.safetensors\"")).message(),
              AllOf(HasSubstr("\"x\""), HasSubstr(last)));
}

TEST_P(Formats, AConfigOfOtherWidthsIsRefusedWithTheTensorsThatSaySo) {
  Directory directory;
  const File right = MakeFile(GetParam(), directory.path);
  WriteTo(directory.path + "/model.safetensors", right.Bytes());
  EXPECT_THAT(Load(directory.path, R"({"moe_intermediate_size": 48})").message(),
              AllOf(HasSubstr("experts.0.gate_proj.weight\" is [40, 144], expected is [48, 144]"),
                    HasSubstr("experts.3.down_proj.weight\" is [144, 40]")));
  EXPECT_THAT(
      Load(directory.path, R"({"num_experts": 2, "n_group": 1, "topk_group": 1})").message(),
      AllOf(HasSubstr("surplus"), HasSubstr("experts.2.gate_proj.weight")));
  EXPECT_THAT(Load(directory.path, R"({"num_experts": 8})").message(),
              AllOf(HasSubstr("missing"), HasSubstr("experts.7.up_proj.weight")));
  EXPECT_THAT(Load(directory.path, R"({"hidden_size": 0})").message(), HasSubstr("hidden_size"));
  EXPECT_THAT(
      Load(directory.path, R"({"quantization_config": {"quant_method": "nvfp4"}})").message(),
      HasSubstr("\"nvfp4\""));
}

TEST_P(Formats, NextTokenLayersAreLeftAsideInAnyDType) {
  Directory directory;
  File file = MakeFile(GetParam(), directory.path);
  const std::string prefix = "model.layers.2.";
  file.tensors.push_back({prefix + "eh_proj.weight", "BF16", {1, 2}, "1234"});
  file.tensors.push_back({prefix + "attention.dense.weight", "F8_E4M3", {1, 2}, "\x7F\x01"});
  file.tensors.push_back({prefix + "attention.dense.weight_scale", "F32", {1}, "1234"});
  file.tensors.push_back({prefix + "mlp.up_proj.weight", "I8", {1}, "1"});
  file.tensors.push_back({prefix + "mlp.up_proj.weight_scale_inv", "F16", {1}, "12"});
  file.Lay();
  WriteTo(directory.path + "/model.safetensors", file.Bytes());
  const Status status = Load(directory.path, R"({"num_nextn_predict_layers": 1})");
  EXPECT_TRUE(status.ok()) << status.message();
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i)
    if (const std::string_view flag = argv[i]; flag.starts_with("--seed="))
      sluice::first_seed = std::strtoull(argv[i] + 7, nullptr, 10);
  return RUN_ALL_TESTS();
}
