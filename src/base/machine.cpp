#include "base/machine.h"

#include <cpuid.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>

namespace sluice {
namespace {

// XSAVE state components that the operating system must have enabled (XCR0 bits).
constexpr uint64_t kXcr0Avx512 = 0xE6;    // SSE, AVX, opmask, ZMM high halves
constexpr uint64_t kXcr0Tiles = 0x60000;  // tile configuration and data

uint64_t ReadXcr0() {
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

// Linux grants the 8 KiB of tile data per thread only on request (arch_prctl, since 5.16).
bool AskForTiles() {
  constexpr int kArchReqXcompPerm = 0x1023, kXfeatureTileData = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureTileData) == 0;
}

// Where vdpbf16ps is worth using. On AMD since Zen 4 (family 19h with the instruction) it issues as
// often as FMA and does twice the work; on Intel's cores it takes longer than the two FMAs that it
// replaces. A rule and no measurement: a machine's bits may not depend on how busy it was at start.
bool DotsAreFast() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(0, &a, &b, &c, &d)) return false;
  if (b != signature_AMD_ebx || c != signature_AMD_ecx || d != signature_AMD_edx) return false;
  __get_cpuid(1, &a, &b, &c, &d);
  const unsigned base = (a >> 8) & 0xF, family = base == 0xF ? base + ((a >> 20) & 0xFF) : base;
  return family >= 0x19;
}

Machine Detect() {
  Machine machine;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return machine;
  const unsigned ebx = b, ecx = c, edx = d;
  unsigned a1 = 0, b1 = 0, c1 = 0, d1 = 0;
  __get_cpuid(1, &a1, &b1, &c1, &d1);
  const bool osxsave = c1 & (1u << 27);
  const uint64_t xcr0 = osxsave ? ReadXcr0() : 0;
  unsigned a71 = 0, ignored = 0;
  __get_cpuid_count(7, 1, &a71, &ignored, &ignored, &ignored);
  if (a71 & (1u << 4)) machine.features |= kAvxVnni;
  constexpr unsigned kAvx512Bits = (1u << 16) | (1u << 17) | (1u << 28) | (1u << 30) | (1u << 31);
  if ((ebx & kAvx512Bits) == kAvx512Bits && (xcr0 & kXcr0Avx512) == kXcr0Avx512) {
    machine.features |= kAvx512;
    if (ecx & (1u << 1)) machine.features |= kAvx512Vbmi;
    if (ecx & (1u << 11)) machine.features |= kAvx512Vnni;
    if (edx & (1u << 23)) machine.features |= kAvx512Fp16;
    if (a71 & (1u << 5)) {
      machine.features |= kAvx512Bf16;
      if (DotsAreFast()) machine.features |= kFastBf16Dot;
    }
    const bool tile = edx & (1u << 24), bf16 = edx & (1u << 22), int8 = edx & (1u << 25);
    if (tile && (xcr0 & kXcr0Tiles) == kXcr0Tiles && AskForTiles()) {
      if (bf16) machine.features |= kAmxBf16;
      if (int8) machine.features |= kAmxInt8;
    }
  }
  return machine;
}

// A cgroup file that holds one number, or "max".
uint64_t ReadLimit(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  if (!(file >> word) || word == "max") return std::numeric_limits<uint64_t>::max();
  return std::strtoull(word.c_str(), nullptr, 10);
}

uint64_t ReadMemInfo(std::string_view key) {
  std::ifstream file("/proc/meminfo");
  std::string name;
  uint64_t kib;
  std::string rest;
  while (file >> name >> kib && std::getline(file, rest))
    if (name == key) return kib * 1024;
  return 0;
}

// What --cpu-isa may name, and what that leaves.
struct Limit {
  std::string_view name;
  uint32_t needs;
};

// clang-format off
constexpr Limit kLimits[] = {
    {"avx2",        kAvx2},
    {"avx_vnni",    kAvx2 | kAvxVnni},
    {"avx512",      kAvx2 | kAvx512},
    {"vnni",        kAvx2 | kAvx512 | kAvx512Vnni},
    {"avx512_vbmi", kAvx2 | kAvx512 | kAvx512Vbmi},
    {"avx512_bf16", kAvx2 | kAvx512 | kAvx512Vbmi | kAvx512Bf16},
    {"amx",         kAvx2 | kAvx512 | kAmxBf16},
};
// clang-format on

}  // namespace

const Machine& ThisMachine() {
  static const Machine machine = Detect();
  return machine;
}

Result<Machine> LimitedMachine(std::string_view isa) {
  Machine machine = ThisMachine();
  if (isa == "auto") return machine;
  const auto* const limit = std::ranges::find(kLimits, isa, &Limit::name);
  if (limit == std::end(kLimits)) {
    std::string names;
    for (const Limit& known : kLimits) names += ", " + std::string(known.name);
    return ParamError(Code::kInvalidArgument, "cpu-isa", "cpu-isa is {}, allowed are auto{}",
                      Quoted(isa), names);
  }
  if (!machine.Has(limit->needs))
    return ParamError(Code::kUnsupported, "cpu-isa", "cpu-isa is {}, but this machine has only {}",
                      isa, DescribeFeatures(machine));
  if (isa == "amx") return machine;  // and everything below it
  machine.features = limit->needs;
  if (isa == "avx512_bf16") machine.features |= kFastBf16Dot;
  return machine;
}

std::string DescribeFeatures(const Machine& machine) {
  std::string out = "avx2";
  if (machine.Has(kAvxVnni)) out += "+avx_vnni";
  if (machine.Has(kAvx512)) out += "+avx512";
  if (machine.Has(kAvx512Vbmi)) out += "+vbmi";
  if (machine.Has(kAvx512Vnni)) out += "+vnni";
  if (machine.Has(kAvx512Bf16)) out += "+bf16";
  if (machine.Has(kAvx512Fp16)) out += "+fp16";
  if (machine.Has(kAmxBf16)) out += "+amx_bf16";
  if (machine.Has(kAmxInt8)) out += "+amx_int8";
  return out;
}

std::string ProcessorName() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line))
    if (line.starts_with("model name"))
      return line.substr(std::min(line.find(':') + 2, line.size()));
  return "unknown processor";
}

int UsableCores() {
  cpu_set_t set;
  int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period;
  if (file >> quota >> period && quota != "max" && period > 0) {
    const double share = std::strtod(quota.c_str(), nullptr) / period;
    cores = std::min(cores, std::max(1, static_cast<int>(std::lround(share))));
  }
  return std::max(cores, 1);
}

uint64_t MemoryLimitBytes() {
  const uint64_t physical = ReadMemInfo("MemTotal:");
  return std::min(physical, ReadLimit("/sys/fs/cgroup/memory.max"));
}

uint64_t MemoryAvailableBytes() {
  const uint64_t available = ReadMemInfo("MemAvailable:");
  const uint64_t limit = ReadLimit("/sys/fs/cgroup/memory.max");
  if (limit == std::numeric_limits<uint64_t>::max()) return available;
  const uint64_t used = ReadLimit("/sys/fs/cgroup/memory.current");
  return std::min(available, limit > used ? limit - used : 0);
}

}  // namespace sluice
