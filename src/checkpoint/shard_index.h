// model.safetensors.index.json: which shard holds which tensor. Internal to this folder.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace sluice {

constexpr uint64_t kShardIndexBytesMax = 256 << 20;
constexpr size_t kShardsMax = 10'000;
constexpr size_t kCheckpointTensorsMax = 2'000'000;

struct ShardIndex {
  std::vector<std::string> files;                    // in order of first mention; not yet checked
  std::vector<std::pair<std::string, int>> tensors;  // name, index into files; sorted by name
};

/// Errors: kBadCheckpoint: no valid JSON, no weight_map, a value that is no string, a name twice,
/// over a limit. File names are taken as they are.
Result<ShardIndex> ParseShardIndex(std::string_view text, const std::string& path);

}  // namespace sluice
