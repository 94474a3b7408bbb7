#include "checkpoint/model_path.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>

namespace sluice {
namespace {

namespace fs = std::filesystem;

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

// Where geometries may lie, best first.
std::vector<fs::path> GeometryFolders() {
  std::vector<fs::path> folders;
  if (const char* set = std::getenv("SLUICE_MODELS_DIR"); set && *set) folders.emplace_back(set);
  folders.emplace_back(SLUICE_GEOMETRIES_DIR);
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (!error) folders.push_back(program.parent_path() / ".." / "share" / "sluice" / "geometries");
  return folders;
}

// Lower-case name to file, of every geometry; the first folder that has a name wins.
std::map<std::string, fs::path> Geometries() {
  std::map<std::string, fs::path> found;
  for (const fs::path& folder : GeometryFolders()) {
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
      if (it->path().extension() == ".json")
        found.emplace(Lower(it->path().stem().string()), it->path());
  }
  return found;
}

bool HasWeights(const fs::path& directory) {
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.ends_with(".safetensors") || name == "model.safetensors.index.json") return true;
  }
  return false;
}

Result<ModelPath> ModelDirectory(const fs::path& directory) {
  ModelPath model;
  const fs::path config = directory / "config.json";
  std::error_code error;
  if (!fs::is_regular_file(config, error))
    return ParamError(Code::kInvalidArgument, "model-path", "{}: there is no config.json in it",
                      directory.string());
  const fs::path named = fs::weakly_canonical(directory, error);
  model.name = (error ? directory : named).filename().string();
  model.config_path = config.string();
  model.directory = directory.string();
  model.has_weights = HasWeights(directory);
  return model;
}

}  // namespace

Result<ModelPath> ResolveModelPath(std::string_view argument) {
  std::error_code error;
  if (!argument.empty() && fs::is_directory(fs::path(argument), error))
    return ModelDirectory(fs::path(argument));
  const auto geometries = Geometries();
  const auto at = geometries.find(Lower(argument));
  if (at != geometries.end()) {
    ModelPath model;
    model.name = at->second.stem().string();
    model.config_path = at->second.string();
    return model;
  }
  std::string names;
  for (const std::string& name : ShippedGeometries()) names += (names.empty() ? "" : ", ") + name;
  return ParamError(Code::kNotFound, "model-path",
                    "{} is neither a directory nor the name of a shipped geometry ({})",
                    Quoted(argument), names.empty() ? "none was found" : names);
}

Status CheckLoadFormat(const ModelPath& model, bool dummy) {
  if (model.has_weights || dummy) return {};
  return ParamError(Code::kInvalidArgument, "load-format",
                    "{} has a configuration but no weights: only --load-format dummy can load it",
                    model.directory.empty() ? model.name : model.directory);
}

std::vector<std::string> ShippedGeometries() {
  std::vector<std::string> names;
  for (const auto& [lower, path] : Geometries()) names.push_back(path.stem().string());
  return names;
}

}  // namespace sluice
