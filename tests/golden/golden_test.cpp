// Whole models against independent implementations: logits, greedy tokens, and the tensors inside,
// for every directory of tests/golden/ (format: README.md there) and the bundled model. Another
// checkpoint of the same form: golden_test --checkpoint=DIR (with DIR/golden/).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "checkpoint/checkpoint.h"
#include "checkpoint/weights.h"
#include "models/registry.h"
#include "support/golden.h"
#include "support/model_runner.h"

namespace sluice {
namespace {

constexpr const char* kBundledModel = SLUICE_SOURCE_DIR "/models/sluice-tiny";

std::vector<std::string> checkpoints;  // absolute paths, set by main

/// The bundled model lies where users look for it, its golden outputs among the tests.
Result<Golden> OpenGolden(const std::string& checkpoint) {
  return Golden::Open(checkpoint == kBundledModel ? SLUICE_SOURCE_DIR "/tests/golden/bundled"
                                                  : checkpoint + "/golden",
                      "f64");
}

std::vector<std::string> CheckpointsInTheTree() {
  std::vector<std::string> out = {kBundledModel};
  for (const auto& entry : std::filesystem::directory_iterator(SLUICE_SOURCE_DIR "/tests/golden"))
    if (std::filesystem::exists(entry.path() / "config.json")) out.push_back(entry.path().string());
  std::sort(out.begin(), out.end());
  return out;
}

class Goldens : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(, Goldens, testing::ValuesIn(checkpoints), [](const auto& test) {
  std::string name = std::filesystem::path(test.param).filename();
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
  return name;
});

std::unique_ptr<Model> Load(const std::string& checkpoint, const std::string& dtype) {
  Team team(2);
  ModelLoadOptions options;
  options.model_path = checkpoint;
  options.dtype = dtype;
  options.show_progress = false;
  auto model = LoadModel(options, team);
  if (!model.ok()) {
    ADD_FAILURE() << model.status().message();
    return nullptr;
  }
  return std::move(*model);
}

// Whether kv_b is fp8 in the file with scales that bfloat16, in which it is held, cannot multiply
// by exactly.
bool RoundsKvExpansion(const std::string& directory) {
  const auto checkpoint = Checkpoint::Open(directory);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  bool rounds = false;
  for (const TensorInfo& tensor : checkpoint->tensors()) {
    if (tensor.name.find("kv_b_proj.weight_scale") == tensor.name.npos) continue;
    const Status status = checkpoint->WithBytes(tensor, [&](std::span<const std::byte> bytes) {
      const std::vector<std::byte> aligned(bytes.begin(), bytes.end());
      const TensorData data{tensor.name, tensor.dtype, tensor.shape, aligned.data()};
      for (int64_t i = 0; i < data.count(); ++i) {
        float scale = 0;
        data.ToFloat(i, 1, &scale);
        int exponent = 0;
        rounds = rounds || std::frexp(scale, &exponent) != 0.5f;
      }
      return Status();
    });
    EXPECT_TRUE(status.ok()) << status.message();
  }
  return rounds;
}

// What float32 may differ by: hardly anything, but where each weight of kv_b is rounded by up to
// 2^-9.
double Float32Limit(const std::string& checkpoint, double exact, double rounded) {
  return RoundsKvExpansion(checkpoint) ? rounded : exact;
}

// 2-norm of the difference over the 2-norm of the expected row.
double RowError(const float* actual, const float* expected, size_t count) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < count; ++i) {
    difference += std::pow(double{actual[i]} - expected[i], 2);
    norm += std::pow(double{expected[i]}, 2);
  }
  return std::sqrt(difference / norm);
}

struct Errors {
  double median, worst;
};

// Every golden logits row of every prompt, prompts fed whole and continued token by token.
Errors CompareLogits(const Model& model, const Golden& golden) {
  std::vector<double> errors;
  for (size_t p = 0; p < golden.prompts().size(); ++p) {
    const GoldenPrompt& prompt = golden.prompts()[p];
    const std::vector<float> expected = golden.Tensor("prompt" + std::to_string(p) + "/logits");
    const size_t vocab = static_cast<size_t>(model.info().vocab_size);
    EXPECT_EQ(expected.size(), prompt.logit_positions.size() * vocab);
    if (expected.size() != prompt.logit_positions.size() * vocab) continue;
    const auto length = static_cast<int64_t>(prompt.ids.size());
    const int64_t room = length + static_cast<int64_t>(prompt.greedy.size());
    ModelRunner runner(model, 2, 1, room, room);
    const auto rows = runner.Feed(runner.Start(length), prompt.ids, room);
    for (size_t i = 0; i < prompt.logit_positions.size(); ++i)
      errors.push_back(RowError(rows[static_cast<size_t>(prompt.logit_positions[i])].data(),
                                expected.data() + i * vocab, vocab));
    ModelRunner greedy(model, 1, 1, room, room);
    EXPECT_EQ(greedy.Greedy(prompt.ids, static_cast<int>(prompt.greedy.size())), prompt.greedy)
        << "prompt " << p;
  }
  std::sort(errors.begin(), errors.end());
  return {errors[errors.size() / 2], errors.back()};
}

TEST_P(Goldens, Bf16LogitsStayWithinTheRoundingNoiseAndGreedyTokensMatch) {
  const auto model = Load(GetParam(), "bfloat16");
  ASSERT_NE(model, nullptr);
  auto golden = OpenGolden(GetParam());
  ASSERT_TRUE(golden.ok()) << golden.status().message();
  const Errors errors = CompareLogits(*model, *golden);
  // How far rounding alone moves this checkpoint's logits; the median is the sharp test.
  EXPECT_LE(errors.median, 2 * golden->Statistic("bf16_vs_f64_rel_l2_median", 0));
  EXPECT_LE(errors.worst, 4 * golden->Statistic("bf16_vs_f64_rel_l2", 0));
  std::printf("bf16: median %.2e worst %.2e (noise: median %.2e worst %.2e)\n", errors.median,
              errors.worst, golden->Statistic("bf16_vs_f64_rel_l2_median", 0),
              golden->Statistic("bf16_vs_f64_rel_l2", 0));
}

TEST_P(Goldens, Float32LogitsAgreeToAHundredThousandth) {
  const auto model = Load(GetParam(), "float32");
  ASSERT_NE(model, nullptr);
  auto golden = OpenGolden(GetParam());
  ASSERT_TRUE(golden.ok()) << golden.status().message();
  const Errors errors = CompareLogits(*model, *golden);
  EXPECT_LE(errors.worst, Float32Limit(GetParam(), 1e-5, 0x1p-9));
  std::printf("float32: median %.2e worst %.2e\n", errors.median, errors.worst);
}

TEST_P(Goldens, TensorsInsideAgreeInFloat32) {
  const auto model = Load(GetParam(), "float32");
  ASSERT_NE(model, nullptr);
  auto golden = OpenGolden(GetParam());
  ASSERT_TRUE(golden.ok()) << golden.status().message();
  if (golden->debug_prompt().empty()) GTEST_SKIP() << "this golden folder has no debug tensors";
  const double limit = Float32Limit(GetParam(), 1e-4, 0x1p-8);
  int compared = 0;
  const DebugTap tap = [&](std::string_view name, int layer, View<const float, 2> rows) {
    const std::string key = layer < 0
                                ? "debug/" + std::string(name)
                                : "debug/layer" + std::to_string(layer) + "." + std::string(name);
    if (!golden->Has(key)) return;
    std::vector<float> expected = golden->Tensor(key), actual;
    for (int64_t t = 0; t < rows.dim(0); ++t)
      actual.insert(actual.end(), rows.row(t), rows.row(t) + rows.dim(1));
    ASSERT_EQ(actual.size(), expected.size()) << key;
    ++compared;
    if (name == "router_ids") {  // the order of a token's experts carries no meaning
      for (int64_t t = 0; t < rows.dim(0); ++t) {
        const auto range = [&](std::vector<float>& v) {
          std::sort(v.begin() + t * rows.dim(1), v.begin() + (t + 1) * rows.dim(1));
        };
        range(actual);
        range(expected);
      }
      EXPECT_EQ(actual, expected) << key;
    } else if (name == "router_weights") {
      std::sort(actual.begin(), actual.end());
      std::sort(expected.begin(), expected.end());
      EXPECT_LE(RowError(actual.data(), expected.data(), expected.size()), limit) << key;
    } else {
      // The recurrent state and its output are the sharp ones: a bfloat16 state would pass the
      // logits, and misses this by two orders of magnitude.
      EXPECT_LE(RowError(actual.data(), expected.data(), expected.size()), limit) << key;
    }
  };
  ModelRunner runner(*model, 1, 1, 64, 64);
  const auto count = static_cast<int64_t>(golden->debug_prompt().size());
  runner.Step({{runner.Start(count), golden->debug_prompt()}}, &tap);
  EXPECT_GE(compared, 2 + 3 * model->info().layers);
}

TEST_P(Goldens, Bf16StateAndRecurrenceOutputStayExact) {
  // Under bfloat16 activations too the state is fp32: fed with the same rounded q, k and v, block
  // commits and single steps must agree with each other bit for bit (batch_test) and the state
  // tensor must lie within the inputs' rounding of the exact one.
  const auto model = Load(GetParam(), "bfloat16");
  ASSERT_NE(model, nullptr);
  auto golden = OpenGolden(GetParam());
  ASSERT_TRUE(golden.ok());
  if (golden->debug_prompt().empty()) GTEST_SKIP() << "this golden folder has no debug tensors";
  if (model->info().linear_layers == 0) return;
  double worst = 0;
  const DebugTap tap = [&](std::string_view name, int layer, View<const float, 2> rows) {
    const std::string key = "debug/layer" + std::to_string(layer) + "." + std::string(name);
    if (name != "state" || !golden->Has(key)) return;
    const std::vector<float> expected = golden->Tensor(key);
    worst = std::max(worst, RowError(rows.data(), expected.data(), expected.size()));
  };
  ModelRunner runner(*model, 1, 1, 64, 64);
  const auto count = static_cast<int64_t>(golden->debug_prompt().size());
  runner.Step({{runner.Start(count), golden->debug_prompt()}}, &tap);
  EXPECT_GT(worst, 0);
  EXPECT_LE(worst, 4 * golden->Statistic("bf16_vs_f64_rel_l2", 0));
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  // Before InitGoogleTest, which instantiates the suites.
  for (int i = 1; i < argc; ++i)
    if (const std::string_view flag = argv[i]; flag.starts_with("--checkpoint="))
      sluice::checkpoints.push_back(
          std::filesystem::absolute(flag.substr(flag.find('=') + 1)).lexically_normal().string());
  for (std::string& path : sluice::checkpoints)
    if (path.ends_with('/')) path.pop_back();  // tests are named after the folder
  if (sluice::checkpoints.empty()) sluice::checkpoints = sluice::CheckpointsInTheTree();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
