// Arbitrary bytes as a safetensors file. Whatever is accepted must tile the file exactly.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "checkpoint/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto header = sluice::ParseSafetensors(bytes, size, "fuzz.safetensors");
  if (!header.ok()) {
    if (header.status().message().size() > 1000) std::abort();  // errors stay short
    return 0;
  }
  uint64_t covered = header->data_begin;
  for (const sluice::TensorEntry& tensor : header->tensors) {
    uint64_t bytes_of_shape = static_cast<uint64_t>(sluice::DTypeBytes(tensor.dtype));
    for (int64_t dim : tensor.shape) bytes_of_shape *= static_cast<uint64_t>(dim);
    if (header->data_begin + tensor.begin != covered || tensor.end - tensor.begin != bytes_of_shape)
      std::abort();
    covered = header->data_begin + tensor.end;
  }
  if (covered != size) std::abort();
  return 0;
}
