// For the families' unit tests: a small checkpoint's config.json with lies put over it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <span>
#include <string>

#include "models/registry.h"

namespace sluice {

inline Result<ModelDescription> DescribeWith(std::string model, std::string overrides) {
  ModelLoadOptions options;
  options.model_path = std::move(model);
  options.config_overrides = std::move(overrides);
  return DescribeModel(options);
}

struct Lie {
  const char* overrides;
  const char* param;    // the field that the error is about
  const char* allowed;  // a part of the message beyond the field's name
};

inline void ExpectRefused(const std::string& model, std::span<const Lie> lies) {
  ASSERT_TRUE(DescribeWith(model, "").ok());
  for (const Lie& lie : lies) {
    const auto described = DescribeWith(model, lie.overrides);
    ASSERT_FALSE(described.ok()) << lie.overrides;
    EXPECT_EQ(described.status().param(), lie.param) << described.status().message();
    EXPECT_THAT(described.status().message(), testing::HasSubstr(lie.param)) << lie.overrides;
    EXPECT_THAT(described.status().message(), testing::HasSubstr(lie.allowed)) << lie.overrides;
  }
}

/// What loading says when config.json, changed so, does not fit the checkpoint's tensors.
inline std::string LoadRefusal(const std::string& model, std::string overrides) {
  ModelLoadOptions options;
  options.model_path = model;
  options.config_overrides = std::move(overrides);
  options.show_progress = false;
  Team team(1);
  const auto loaded = LoadModel(options, team);
  EXPECT_FALSE(loaded.ok()) << options.config_overrides;
  return loaded.ok() ? std::string() : loaded.status().message();
}

/// What loading random weights says of sizes that no machine holds.
inline Status DummyRefusal(const std::string& model, std::string overrides) {
  ModelLoadOptions options;
  options.model_path = model;
  options.load_format = "dummy";
  options.config_overrides = std::move(overrides);
  options.show_progress = false;
  Team team(1);
  return LoadModel(options, team).status();
}

/// A config.json of these fields, read by a family; the arithmetic is bfloat16.
template <class Config>
Result<Config> ReadFields(const std::string& fields) {
  TRY(const JsonObject json, JsonObject::Parse("{" + fields + "}", "config.json"));
  return Config::Read(json, {Rounding::kBf16}, MoeBackend::kAuto);
}

}  // namespace sluice
