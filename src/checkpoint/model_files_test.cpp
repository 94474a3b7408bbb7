// generation_config.json, model paths and shipped geometries, progress.
#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <functional>

#include "checkpoint/generation_config.h"
#include "checkpoint/json_config.h"
#include "checkpoint/model_path.h"
#include "checkpoint/progress.h"
#include "checkpoint/safetensors_builder.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsSupersetOf;

class ModelFiles : public testing::Test {
 protected:
  ModelFiles() {
    std::string name = testing::TempDir() + "model_files_test_XXXXXX";
    directory_ = mkdtemp(name.data());
  }
  ~ModelFiles() override { fs::remove_all(directory_); }
  Result<GenerationConfig> Generation(std::string_view text) {
    WriteTo(directory_ + "/generation_config.json", text);
    return ReadGenerationConfig(directory_, 100);
  }
  std::string directory_;
};

TEST_F(ModelFiles, GenerationConfigGivesWhatTheFileSays) {
  const auto config = Generation(
      R"({"eos_token_id":[99,0],"temperature":0.6,"top_p":0.95,"top_k":20,"min_p":0,
          "repetition_penalty":1.05,"do_sample":true,"transformers_version":"4"})");
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_THAT(config->eos_token_ids, ElementsAre(99, 0));
  EXPECT_EQ(config->temperature, 0.6);
  EXPECT_EQ(config->top_p, 0.95);
  EXPECT_EQ(config->top_k, 20);
  EXPECT_EQ(config->min_p, 0.0);
  EXPECT_EQ(config->repetition_penalty, 1.05);
  EXPECT_THAT(Generation(R"({"eos_token_id":7})")->eos_token_ids, ElementsAre(7));
  EXPECT_FALSE(Generation(R"({"eos_token_id":null,"top_p":null})")->top_p.has_value());
}

TEST_F(ModelFiles, GenerationConfigMayBeAbsent) {
  const auto config = ReadGenerationConfig(directory_, 100);
  ASSERT_TRUE(config.ok());
  EXPECT_TRUE(config->eos_token_ids.empty());
  EXPECT_FALSE(config->temperature.has_value());
}

TEST_F(ModelFiles, GenerationConfigRefusesEachImpossibleDefaultByField) {
  const struct {
    const char *text, *says;
  } kLies[] = {
      {R"({"eos_token_id":100})",
       "eos_token_id is 100, in an array allowed are integers from 0 to 99"},
      {R"({"eos_token_id":[1,-1]})", "eos_token_id is an array of 2"},
      {R"({"eos_token_id":"x"})", "eos_token_id is \"x\""},
      {R"({"temperature":-0.1})", "temperature is -0.1, allowed are numbers from 0 to 100"},
      {R"({"temperature":1e400})", "over the range of a double"},
      {R"({"temperature":"hot"})", "temperature is \"hot\""},
      {R"({"top_p":0})", "top_p is 0, allowed are numbers over 0"},
      {R"({"top_p":1.5})", "top_p is 1.5"},
      {R"({"top_k":-2})", "top_k is -2"},
      {R"({"top_k":2.5})", "top_k is 2.5"},
      {R"({"min_p":2})", "min_p is 2"},
      {R"({"repetition_penalty":0})", "repetition_penalty is 0"},
      {R"({"repetition_penalty":3})", "repetition_penalty is 3"},
      {R"({"top_p":1.5,"min_p":-1})", "min_p is -1"},
      {"[]", "an array of 0, expected is an object"},
  };
  for (const auto& [text, says] : kLies)
    EXPECT_THAT(Generation(text).status().message(),
                AllOf(HasSubstr("generation_config.json"), HasSubstr(says)));
}

TEST_F(ModelFiles, EveryShippedGeometryIsAConfigFoundByName) {
  const std::vector<std::string> names = ShippedGeometries();
  EXPECT_THAT(names, IsSupersetOf({"Ling-2.6-1T", "Ling-2.6-flash", "Qwen3-30B-A3B", "Grok-2",
                                   "tiny-ling25", "tiny-ling25-tail"}));
  for (const std::string& name : names) {
    const auto model = ResolveModelPath(name);
    ASSERT_TRUE(model.ok()) << model.status().message();
    EXPECT_EQ(model->name, name);
    EXPECT_FALSE(model->has_weights);
    EXPECT_TRUE(model->directory.empty());
    const auto config = ReadModelConfig(model->config_path);
    ASSERT_TRUE(config.ok()) << config.status().message();
    EXPECT_EQ(config->Strings("architectures")->size(), 1u) << name;
    EXPECT_TRUE(config->Int("hidden_size", 16, 8192).ok()) << name;
  }
  EXPECT_EQ(ResolveModelPath("ling-2.6-FLASH")->name, "Ling-2.6-flash");
  EXPECT_THAT(ResolveModelPath("Ling-9").status().message(),
              AllOf(HasSubstr("\"Ling-9\" is neither"), HasSubstr("Ling-2.6-flash")));
  EXPECT_FALSE(ResolveModelPath("").ok());
  EXPECT_FALSE(ResolveModelPath("../geometries/Grok-2").ok());
}

TEST_F(ModelFiles, ADirectoryWinsAndNeedsAConfig) {
  EXPECT_THAT(ResolveModelPath(directory_).status().message(), HasSubstr("no config.json"));
  WriteTo(directory_ + "/config.json", "{}");
  auto model = ResolveModelPath(directory_ + "/");
  ASSERT_TRUE(model.ok());
  EXPECT_EQ(model->name, fs::path(directory_).filename().string());
  EXPECT_FALSE(model->has_weights);
  EXPECT_THAT(CheckLoadFormat(*model, false).message(), HasSubstr("only --load-format dummy"));
  EXPECT_TRUE(CheckLoadFormat(*model, true).ok());
  WriteTo(directory_ + "/model.safetensors", "");
  model = ResolveModelPath(directory_);
  EXPECT_TRUE(model->has_weights);
  EXPECT_TRUE(CheckLoadFormat(*model, false).ok());
}

TEST_F(ModelFiles, ModelsDirAddsGeometriesAndShadowsShippedOnes) {
  WriteTo(directory_ + "/mine.json", "{}");
  WriteTo(directory_ + "/grok-2.json", "{}");
  setenv("SLUICE_MODELS_DIR", directory_.c_str(), 1);
  EXPECT_EQ(ResolveModelPath("MINE")->config_path, directory_ + "/mine.json");
  EXPECT_EQ(ResolveModelPath("Grok-2")->config_path, directory_ + "/grok-2.json");
  unsetenv("SLUICE_MODELS_DIR");
  EXPECT_FALSE(ResolveModelPath("mine").ok());
}

std::string Captured(const std::function<void()>& print) {
  testing::internal::CaptureStderr();
  print();
  return testing::internal::GetCapturedStderr();
}

TEST(LoadProgress, DrawsABarThatEndsItsLine) {
  const std::string bar = Captured([] {
    LoadProgress progress("weights", LoadProgress::Form::kBar);
    progress.Update(0, 1024);
    progress.Update(512, 1024);
    progress.Update(1024, 1024);
    progress.Update(1024, 1024);  // after the end: silent
  });
  EXPECT_THAT(bar, AllOf(HasSubstr("\rweights [" + std::string(30, '.') + "] 0 B of 1 KiB (0 %)"),
                         HasSubstr("[" + std::string(15, '#') + std::string(15, '.') + "]"),
                         HasSubstr("(100 %)")));
  EXPECT_EQ(std::count(bar.begin(), bar.end(), '\n'), 1);
  const std::string broken = Captured([] {
    LoadProgress progress("weights", LoadProgress::Form::kBar);
    progress.Update(1, 2);
  });
  EXPECT_EQ(broken.back(), '\n');
}

TEST(LoadProgress, LogsALineEveryTenthElsewhere) {
  const std::string lines = Captured([] {
    LoadProgress progress("weights", LoadProgress::Form::kLines);
    for (uint64_t done = 0; done <= 1000; ++done) progress.Update(done, 1000);
  });
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 10) << lines;
  EXPECT_THAT(lines, HasSubstr("weights: 1000 B of 1000 B (100 %)"));
}

}  // namespace
}  // namespace sluice
