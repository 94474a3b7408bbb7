// Golden checkpoints quantised as they load: how far logits move, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "models/registry.h"
#include "support/golden.h"
#include "support/model_runner.h"

namespace sluice {
namespace {

std::string Folder(const std::string& name) { return SLUICE_SOURCE_DIR "/tests/golden/" + name; }

Result<std::unique_ptr<Model>> Load(const std::string& folder, const QuantizationOptions& q) {
  Team team(2);
  ModelLoadOptions options;
  options.model_path = folder;
  options.dtype = "float32";  // so that only the weights differ
  options.quantization = q;
  options.show_progress = false;
  return LoadModel(options, team);
}

// The median of the rows' relative errors in the 2-norm.
double LogitsError(const Model& model, const Golden& golden) {
  std::vector<double> errors;
  const auto vocab = static_cast<size_t>(model.info().vocab_size);
  for (size_t p = 0; p < golden.prompts().size(); ++p) {
    const GoldenPrompt& prompt = golden.prompts()[p];
    const std::vector<float> expected = golden.Tensor("prompt" + std::to_string(p) + "/logits");
    const auto length = static_cast<int64_t>(prompt.ids.size());
    ModelRunner runner(model, 2, 1, length, length);
    const auto rows = runner.Feed(runner.Start(length), prompt.ids, length);
    for (size_t i = 0; i < prompt.logit_positions.size(); ++i) {
      const auto& row = rows[static_cast<size_t>(prompt.logit_positions[i])];
      double difference = 0, norm = 0;
      for (size_t j = 0; j < vocab; ++j) {
        const double want = expected[i * vocab + j];
        difference += std::pow(row[j] - want, 2);
        norm += want * want;
      }
      errors.push_back(std::sqrt(difference / norm));
    }
  }
  std::nth_element(errors.begin(), errors.begin() + errors.size() / 2, errors.end());
  return errors[errors.size() / 2];
}

struct Kind {
  QuantizationOptions options;
  double step;  // of a weight's rounding, relative to weights of a normal distribution
};

// A normal weight's relative error by rounding: e4m3 has three mantissa bits; of the others the
// range over the codes, over sqrt(12).
const Kind kKinds[] = {
    {{.format = "fp8"}, 0.026},
    {{.format = "int8"}, 0.007},
    {{.format = "int4", .group_size = 32}, 0.08},
    {{.format = "int4", .group_size = 128, .zero_points = true}, 0.1},
};

TEST(QuantizedLoad, MovesLogitsByAFewRoundingsOfTheWeights) {
  for (const char* name : {"ling25", "ling20", "qwen3_moe", "qwen3_dense", "grok2"})
    for (const Kind& kind : kKinds) {
      const auto model = Load(Folder(name), kind.options);
      ASSERT_TRUE(model.ok()) << model.status().message();
      auto golden = Golden::Open(Folder(name) + "/golden", "f64");
      ASSERT_TRUE(golden.ok()) << golden.status().message();
      const double error = LogitsError(**model, *golden);
      std::printf("%-12s %-5s group %3ld: %.2e\n", name, kind.options.format.c_str(),
                  static_cast<long>(kind.options.group_size), error);
      EXPECT_LE(error, 4 * kind.step) << name << " " << kind.options.format;
      EXPECT_GE(error, kind.step / 8) << name << ": not quantised?";
    }
}

TEST(QuantizedLoad, RefusesWeightsThatAreQuantisedAlready) {
  for (const char* name : {"ling25_fp8", "fp8_block_qwen3moe"}) {
    const auto model = Load(Folder(name), {.format = "int8"});
    ASSERT_FALSE(model.ok());
    EXPECT_EQ(model.status().param(), "quantization");
    EXPECT_THAT(model.status().message(),
                testing::HasSubstr("weights that are quantised already are loaded as they are"));
    EXPECT_TRUE(Load(Folder(name), {}).ok());
  }
}

}  // namespace
}  // namespace sluice
