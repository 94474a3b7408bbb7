// `sluice inspect --table`: what models need, side by side, as a table for a page.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice {

struct MemoryTableOptions {
  std::vector<std::string> models;  // empty: every shipped geometry but the tiny ones
  int64_t context = 0;              // tokens a request; 0: 32,768, or the model's maximum below it
  int64_t concurrency = 1;          // requests at a time
};

/// Prints a Markdown table: weights in bf16, in fp8 or int8 (equal but
/// for a rounding error) and in int4 with the default groups, KV a token, state a request, and the
/// smallest machine in which weights and pools fit. Exit status: 0; 2 if a model cannot be read.
int PrintMemoryTable(const MemoryTableOptions& options);

}  // namespace sluice
