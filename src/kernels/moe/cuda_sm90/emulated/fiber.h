// Switching stacks: what a call preserves goes onto the stack that is left, its pointer into
// *from, and what lies on the other stack comes back. x86-64, System V.
#pragma once

#include <cstdint>
#include <cstring>

extern "C" void sluice_switch_stack(void** from, void* to);

namespace sluice::emulated {

/// A stack pointer from which sluice_switch_stack begins `entry`, which may not return.
inline void* BeginStack(uint8_t* stack, size_t bytes, void (*entry)()) {
  uint8_t* top = stack + bytes;
  top -= reinterpret_cast<uintptr_t>(top) % 16 + 16;
  void* words[8] = {};  // r15 .. rbp, the address to go to, and where a caller's would be
  words[6] = reinterpret_cast<void*>(entry);
  top -= sizeof words;  // so that at the entry the stack is a call's: 8 below a multiple of 16
  std::memcpy(top, words, sizeof words);
  return top;
}

}  // namespace sluice::emulated
