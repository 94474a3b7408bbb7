// What --model-path means: a directory, or the name of a geometry that we ship.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace sluice {

struct ModelPath {
  std::string name;          // the directory's last part, or the geometry's name as shipped
  std::string config_path;   // config.json, or the geometry's own file
  std::string directory;     // where weights and tokenizer lie; empty for a geometry
  bool has_weights = false;  // a safetensors file or index is there; otherwise only
                             // --load-format dummy can load it
};

/// An existing directory wins (it must hold a config.json); otherwise the name of a shipped
/// geometry, in any case, from the first of: $SLUICE_MODELS_DIR, the source tree,
/// <program's directory>/../share/sluice/geometries.
/// Errors: kNotFound, listing the geometries there are; kInvalidArgument for a directory without
/// config.json.
Result<ModelPath> ResolveModelPath(std::string_view argument);

/// OK, or kInvalidArgument saying that only --load-format dummy can load a model without weights.
Status CheckLoadFormat(const ModelPath& model, bool dummy);

/// Names of the geometries that can be found, sorted.
std::vector<std::string> ShippedGeometries();

}  // namespace sluice
