// The header of a safetensors file: which tensors, of what type and shape, where. Everything the
// header says is compared with the real file before anything is mapped.
//
// Layout (huggingface/safetensors, README "Format"): 8 bytes little-endian header length n, n bytes
// of JSON, then the data section, which the tensors cover without overlap or hole.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tensor/dtype.h"

namespace sluice {

constexpr uint64_t kSafetensorsHeaderBytesMax = 100'000'000;  // the format's own library's limit
constexpr int64_t kSafetensorsTensorsMax = 500'000;  // the largest published models have 130,000
constexpr int kSafetensorsRankMax = 8;

struct TensorEntry {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;  // empty for a scalar
  uint64_t begin, end;         // bytes [begin, end) of the data section
};

struct SafetensorsHeader {
  uint64_t data_begin = 0;           // where the data section starts in the file
  std::vector<TensorEntry> tensors;  // by begin, then by name: they tile the data section in order
  std::map<std::string, std::string> metadata;
};

/// Reads the header from the first bytes of a file of `file_bytes` bytes; `prefix` must hold the
/// whole header (8 + SafetensorsPrefixBytes) or the whole file. `path` is for messages.
/// Errors: kBadCheckpoint, naming path, tensor, what was found and what is allowed.
Result<SafetensorsHeader> ParseSafetensors(std::span<const std::byte> prefix, uint64_t file_bytes,
                                           const std::string& path);

/// Bytes up to the data section (8 + header length), from the first 8 bytes of the file.
/// Errors: kBadCheckpoint if the length does not fit the file or the format's limit.
Result<uint64_t> SafetensorsPrefixBytes(std::span<const std::byte> first, uint64_t file_bytes,
                                        const std::string& path);

/// "[24576, 8192]"
std::string FormatShape(std::span<const int64_t> shape);

}  // namespace sluice
