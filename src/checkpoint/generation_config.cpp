#include "checkpoint/generation_config.h"

#include <filesystem>
#include <limits>

#include "checkpoint/json_config.h"

namespace sluice {
namespace {

constexpr double kTemperatureMax = 100;

// Present fields only; `above` excludes the lower bound itself.
void ReadDouble(FieldReader& read, const char* key, double min, double max, bool above,
                std::optional<double>* out) {
  if (!read.Has(key)) return;
  *out = read.Double(key, min, max, max);
  if (above && **out <= min)
    read.Contradiction(key, fmt::format("allowed are numbers over {}", min));
}

}  // namespace

Result<GenerationConfig> ReadGenerationConfig(const std::string& directory, int64_t vocab_size) {
  GenerationConfig config;
  const std::string path = (std::filesystem::path(directory) / "generation_config.json").string();
  Result<JsonObject> object = JsonObject::Read(path);
  if (object.status().code() == Code::kNotFound && !std::filesystem::exists(path)) return config;
  if (!object.ok()) return object.status();

  FieldReader read(*std::move(object));
  for (int64_t id : read.Ints("eos_token_id", 0, vocab_size - 1))
    config.eos_token_ids.push_back(static_cast<int32_t>(id));
  ReadDouble(read, "temperature", 0, kTemperatureMax, false, &config.temperature);
  ReadDouble(read, "top_p", 0, 1, true, &config.top_p);
  ReadDouble(read, "min_p", 0, 1, false, &config.min_p);
  ReadDouble(read, "repetition_penalty", 0, 2, true, &config.repetition_penalty);
  if (read.Has("top_k")) config.top_k = read.Int("top_k", -1, std::numeric_limits<int32_t>::max());
  RETURN_IF_ERROR(read.status());
  return config;
}

}  // namespace sluice
