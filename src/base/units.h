// Numbers as people read them.
#pragma once

#include <cstdint>
#include <string>

namespace sluice {

/// "512 B", "1.5 KiB", "23.4 MiB", "1.25 TiB".
std::string FormatBytes(uint64_t bytes);

/// "950", "12.3K", "4.56M", "1.02T": counts of parameters or tokens.
std::string FormatCount(uint64_t count);

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

}  // namespace sluice
