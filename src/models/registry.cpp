#include "models/registry.h"

#include <algorithm>

#include "base/clock.h"
#include "base/log.h"
#include "base/units.h"
#include "checkpoint/model_path.h"
#include "checkpoint/progress.h"
#include "checkpoint/quantization.h"
#include "models/bailing_hybrid.h"
#include "models/bailing_moe_v2.h"
#include "models/grok.h"
#include "models/qwen3.h"
#include "models/qwen3_moe.h"

namespace sluice {
namespace {

/// A model whose memory is not allocated yet.
template <class Family, class Config>
Result<std::unique_ptr<Decoder>> MakeBlueprint(const JsonObject& json, Arithmetic arithmetic,
                                               MoeBackend backend) {
  TRY(Config config, Config::Read(json, arithmetic, backend));
  return std::unique_ptr<Decoder>(std::make_unique<Family>(std::move(config)));
}

struct FamilyRow {
  std::string_view architecture;
  Result<std::unique_ptr<Decoder>> (*make)(const JsonObject&, Arithmetic, MoeBackend);
};

// Sorted by name. Dispatch is on config.json's "architectures": model_type is shared by families
// that compute differently.
constexpr FamilyRow kFamilies[] = {
    {"BailingMoeV2ForCausalLM", MakeBlueprint<BailingMoeV2, BailingMoeV2Config>},
    {"BailingMoeV2_5ForCausalLM", MakeBlueprint<BailingHybrid, BailingHybridConfig>},
    {"Grok1ForCausalLM", MakeBlueprint<Grok, GrokConfig>},
    {"Qwen3ForCausalLM", MakeBlueprint<Qwen3, Qwen3Config>},
    {"Qwen3MoeForCausalLM", MakeBlueprint<Qwen3Moe, Qwen3MoeConfig>},
};

Result<Rounding> ChooseRounding(const std::string& dtype, const JsonObject& json) {
  std::string name = dtype;
  if (name == "auto") {
    TRY(name, json.String("torch_dtype", "bfloat16"));
    if (json.Has("dtype")) {
      TRY(name, json.String("dtype"));
    }
  }
  if (name == "bfloat16" || name == "bf16") return Rounding::kBf16;
  if (name == "float32" || name == "float") return Rounding::kNone;
  if (name == "float16" || name == "half") return Rounding::kBf16;  // LoadModel says so
  return ParamError(
      Code::kUnsupported, "dtype",
      "dtype is {}, this build supports auto, bfloat16, float16 (as bfloat16), float32",
      Quoted(name));
}

struct Blueprint {
  std::unique_ptr<Decoder> model;
  std::optional<QuantizationConfig> quantization;

  /// Tensors that are left aside: what the family names, their scales, and static scales of
  /// activations, which are not quantised here.
  IgnoreName Ignore() const {
    return [model = model.get(),
            inputs = quantization && quantization->static_activations](std::string_view name) {
      const std::string_view matrix = MatrixOfScale(name);
      return model->Ignores(name) || (!matrix.empty() && model->Ignores(matrix)) ||
             (inputs && name.ends_with(".input_scale"));
    };
  }
};

Result<std::unique_ptr<Decoder>> MakeFamily(const ModelLoadOptions& options, const ModelPath& path,
                                            const JsonObject& json) {
  TRY(const std::vector<std::string> names, json.Strings("architectures"));
  TRY(const Rounding rounding, ChooseRounding(options.dtype, json));
  for (const std::string& name : names)
    for (const FamilyRow& family : kFamilies)
      if (name == family.architecture)
        return family.make(json, {rounding, options.activations}, options.moe_backend);
  std::string supported;
  for (const FamilyRow& family : kFamilies) {
    if (!supported.empty()) supported += ", ";
    supported += family.architecture;
  }
  return ParamError(Code::kUnsupported, "architectures",
                    "{}: architectures is {}, this build supports {}", path.config_path,
                    names.empty() ? "absent" : Quoted(names[0]), supported);
}

Result<Blueprint> ReadBlueprint(const ModelLoadOptions& options, const ModelPath& path) {
  TRY(const JsonObject json, ReadModelConfig(path.config_path, options.config_overrides));
  Blueprint out;
  TRY(out.model, MakeFamily(options, path, json));
  TRY(out.quantization, QuantizationConfig::Read(json));
  return out;
}

/// The files of a checkpoint, or random numbers.
struct OpenWeights {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<WeightSource> source;
};

OpenWeights MakeWeights(uint64_t seed, const Blueprint& blueprint) {
  return {nullptr, DummySource(seed, blueprint.quantization)};
}

Result<OpenWeights> OpenFiles(const ModelPath& path) {
  TRY(Checkpoint checkpoint, Checkpoint::Open(path.directory));
  OpenWeights out;
  out.checkpoint = std::make_unique<Checkpoint>(std::move(checkpoint));
  out.source = CheckpointSource(*out.checkpoint);
  return out;
}

// The layout for matrices that are stored as floats. Weights that are quantised already are not
// quantised again.
Result<WeightLayout> ChooseLayout(const ModelLoadOptions& options, const Blueprint& blueprint,
                                  const ModelPath& path) {
  TRY(const WeightLayout layout, LayoutOf(options.quantization));
  if (layout != WeightLayout() && blueprint.quantization)
    return AlreadyQuantized(options.quantization, path.config_path + " has a quantization_config");
  return layout;
}

Status CheckStoredAsFloats(const ModelLoadOptions& options, const StoredCounts& stored,
                           const ModelPath& path) {
  if (options.quantization.format == "none" || stored.fp8() == 0) return {};
  return AlreadyQuantized(options.quantization,
                          fmt::format("{} of the matrices of {} are fp8", stored.fp8(), path.name));
}

Status CheckMemory(const WeightPlaces& places, bool floats) {
  const uint64_t available = MemoryAvailableBytes();
  if (places.bytes() <= available) return {};
  return Error(Code::kOutOfMemory, "the weights need {}, this machine has {} available{}",
               FormatBytes(places.bytes()), FormatBytes(available),
               floats ? "; --quantization fp8, int8 or int4 holds them in a half or less" : "");
}

}  // namespace

std::vector<std::string> SupportedArchitectures() {
  std::vector<std::string> out;
  for (const FamilyRow& family : kFamilies) out.emplace_back(family.architecture);
  return out;
}

Result<ModelDescription> DescribeModel(const ModelLoadOptions& options) {
  TRY(const ModelPath path, ResolveModelPath(options.model_path));
  TRY(Blueprint blueprint, ReadBlueprint(options, path));
  OpenWeights weights = MakeWeights(options.dummy_seed, blueprint);
  if (path.has_weights && options.load_format != "dummy") {
    Result<OpenWeights> files = OpenFiles(path);  // what is wrong with them is said when they load
    if (files.ok()) weights = *std::move(files);
  }
  Decoder& model = *blueprint.model;
  TRY(const WeightLayout layout, ChooseLayout(options, blueprint, path));
  model.ChooseFormats(*weights.source, blueprint.quantization, layout);
  RETURN_IF_ERROR(CheckStoredAsFloats(options, model.places().stored(), path));
  const auto shared = std::make_shared<const Blueprint>(std::move(blueprint));
  ModelDescription out{
      .info = model.info(),
      .cache = model.cache_layout(),
      .tensors = model.places().rows(),
      .stored = model.places().stored(),
      .config_path = path.config_path,
      .directory = path.directory,
      .has_weights = path.has_weights,
      .ignore = [shared](std::string_view name) { return shared->Ignore()(name); }};
  for (WeightRow& row : out.tensors) row.place = nullptr;
  return out;
}

Result<std::unique_ptr<Model>> LoadModel(const ModelLoadOptions& options, Team& team) {
  TRY(const ModelPath path, ResolveModelPath(options.model_path));
  const bool dummy = options.load_format == "dummy";
  if (!dummy && options.load_format != "auto" && options.load_format != "safetensors")
    return ParamError(Code::kUnsupported, "load-format",
                      "load-format is {}, this build supports auto, safetensors, dummy",
                      Quoted(options.load_format));
  RETURN_IF_ERROR(CheckLoadFormat(path, dummy));
  if (options.dtype == "float16" || options.dtype == "half")
    log::Warning("dtype {}: activations are bfloat16 instead, as for files that say float16",
                 options.dtype);
  TRY(Blueprint blueprint, ReadBlueprint(options, path));
  OpenWeights weights;
  if (dummy) {
    weights = MakeWeights(options.dummy_seed, blueprint);
  } else {
    TRY(weights, OpenFiles(path));
  }
  const std::unique_ptr<Decoder>& model = blueprint.model;
  TRY(const WeightLayout layout, ChooseLayout(options, blueprint, path));
  for (const std::string& line :
       model->ChooseFormats(*weights.source, blueprint.quantization, layout))
    log::Warning("{}: {}", path.name, line);
  RETURN_IF_ERROR(CheckStoredAsFloats(options, model->places().stored(), path));
  RETURN_IF_ERROR(weights.source->Check(model->places().rows(), blueprint.Ignore()));
  RETURN_IF_ERROR(
      CheckMemory(model->places(), layout == WeightLayout() && !blueprint.quantization));
  RETURN_IF_ERROR(model->places().Allocate());
  const double start = MonotonicSeconds();
  LoadProgress progress("loading " + path.name, options.show_progress
                                                    ? LoadProgress::Form::kAuto
                                                    : LoadProgress::Form::kSilent);
  RETURN_IF_ERROR(LoadWeights(
      *weights.source, model->places().rows(), team,
      {.refuse_non_finite = !dummy,
       .progress = [&](uint64_t done, uint64_t total) { progress.Update(done, total); }}));
  const ModelInfo& info = model->info();
  log::Info("{}: {} parameters ({} active), {} of weights in {:.1f} s; matrices: {}", path.name,
            FormatCount(info.parameters), FormatCount(info.active_parameters),
            FormatBytes(info.weight_bytes), MonotonicSeconds() - start,
            model->places().stored().Text());
  model->places().rows().clear();  // 58,000 closures for the largest geometry
  return std::unique_ptr<Model>(std::move(blueprint.model));
}

}  // namespace sluice
