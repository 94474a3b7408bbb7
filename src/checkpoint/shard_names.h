// What the names of a checkpoint's files say. Internal to this folder.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

constexpr std::string_view kSafetensorsSuffix = ".safetensors";

/// Empty if `name` may be opened as a file of the checkpoint's own directory, otherwise why not.
std::string_view WhyNoShardName(std::string_view name);

/// "pytorch_model-00006-TP-003.safetensors": stem "pytorch_model-00006-TP-", number 3. The files of
/// a stem hold pieces of the same tensors, under the same names.
struct PieceName {
  std::string_view stem;  // of `name`
  int number;
};
std::optional<PieceName> ParsePieceName(std::string_view name);

/// Sorts by name, but the pieces of a stem by number.
void SortShardNames(std::vector<std::string>* names);

/// A directory without an index has no other witness for what should be there: reports each number
/// that is absent from "model-00001-of-00003", and the first that is absent from, or there twice
/// among, the pieces of a stem.
void CheckNumberedNames(const std::vector<std::string>& names,
                        const std::function<void(std::string)>& report);

}  // namespace sluice
