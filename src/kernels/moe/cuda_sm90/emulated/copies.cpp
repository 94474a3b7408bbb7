#include "kernels/moe/cuda_sm90/emulated/copies.h"

#include <cstring>
#include <memory>
#include <vector>

#include "kernels/moe/cuda_sm90/emulated/device.h"

namespace sluice::emulated {
namespace {

// "Contents of the mbarrier object", in our own order.
struct Barrier {
  uint64_t magic : 12;
  uint64_t phase : 1;
  uint64_t observed : 1;  // a wait has found the phase before complete, or there is none
  uint64_t expected : 12;
  uint64_t pending : 12;
  int64_t bytes : 26;
};
static_assert(sizeof(Barrier) == 8);
constexpr uint64_t kMagic = 0xBA2;
constexpr int64_t kBytesMax = (1 << 20) - 1;

Barrier& BarrierAt(uint64_t* address) {
  if (SharedAddressOf(address) % 8 != 0) Trap("an mbarrier that is not aligned");
  Barrier& barrier = *reinterpret_cast<Barrier*>(address);
  if (barrier.magic != kMagic) Trap("an mbarrier that is not initialised");
  return barrier;
}

// "Phase Completion": no arrival and no transaction is pending.
void CompleteIfDone(Barrier& barrier) {
  if (barrier.pending != 0 || barrier.bytes != 0) return;
  barrier.phase ^= 1;
  barrier.pending = barrier.expected;
  barrier.observed = 0;
  WakeAll(&barrier);
}

void AddBytes(Barrier& barrier, int64_t bytes) {
  const int64_t sum = barrier.bytes + bytes;
  if (sum > kBytesMax || sum < -kBytesMax) Trap("an mbarrier with too many bytes");
  barrier.bytes = sum;
}

// 5.5.7, "128 byte swizzle mode", "16-byte atomicity sub-mode": which chunk lies where in each of
// the eight rows of a pattern that begins at a multiple of 1,024 bytes.
constexpr int kPattern[8][8] = {
    {0, 1, 2, 3, 4, 5, 6, 7}, {1, 0, 3, 2, 5, 4, 7, 6}, {2, 3, 0, 1, 6, 7, 4, 5},
    {3, 2, 1, 0, 7, 6, 5, 4}, {4, 5, 6, 7, 0, 1, 2, 3}, {5, 4, 7, 6, 1, 0, 3, 2},
    {6, 7, 4, 5, 2, 3, 0, 1}, {7, 6, 5, 4, 3, 2, 1, 0},
};

struct Copy {
  TensorMap map;
  int column, row;
  uint8_t* shared;
  uint32_t shared_address;
  Barrier* barrier;
  bool early;                   // the source is read when the copy begins, not when it lands
  std::vector<uint8_t> source;  // where it is
  int landed = 0;               // rows
};

constexpr int kRowBytes = 128;

// A row of the box; zeros for what lies outside the matrix.
void ReadRow(const Copy& copy, int row, uint8_t* out) {
  std::memset(out, 0, kRowBytes);
  const TensorMap& map = copy.map;
  const int64_t from_row = int64_t{copy.row} + row;
  if (from_row < 0 || from_row >= static_cast<int64_t>(map.rows)) return;
  for (uint32_t i = 0; i < map.box_columns; ++i) {
    const int64_t column = int64_t{copy.column} + i;
    if (column >= 0 && column < static_cast<int64_t>(map.columns))
      std::memcpy(out + i * map.element_bytes,
                  map.data + static_cast<uint64_t>(from_row) * map.row_bytes +
                      static_cast<uint64_t>(column) * map.element_bytes,
                  map.element_bytes);
  }
}

void Land(Copy& copy) {
  uint8_t bytes[kRowBytes];
  const uint8_t* row = bytes;
  if (copy.early)
    row = copy.source.data() + copy.landed * kRowBytes;
  else
    ReadRow(copy, copy.landed, bytes);
  uint8_t* const line = copy.shared + copy.landed * kRowBytes;
  const uint32_t address = copy.shared_address + static_cast<uint32_t>(copy.landed * kRowBytes);
  for (int chunk = 0; chunk < kRowBytes / 16; ++chunk)
    std::memcpy(line + (SwizzledChunk(address, chunk) - address), row + 16 * chunk, 16);
  ++copy.landed;
}

}  // namespace

void InitBarrier(uint64_t* barrier, uint32_t arrivals) {
  Step();
  if (SharedAddressOf(barrier) % 8 != 0) Trap("an mbarrier that is not aligned");
  if (arrivals == 0 || arrivals >= 1 << 12) Trap("an mbarrier of too many arrivals, or none");
  Barrier& b = *reinterpret_cast<Barrier*>(barrier);
  b.magic = kMagic;
  b.phase = 0;
  b.observed = 1;
  b.expected = b.pending = arrivals;
  b.bytes = 0;
}

// "For each phase of the mbarrier object, at least one test_wait or try_wait operation must be
// performed which returns True for waitComplete before an arrive-on operation in the subsequent
// phase."
void ArriveAtBarrier(uint64_t* address, uint32_t bytes) {
  Step();
  Barrier& barrier = BarrierAt(address);
  if (!barrier.observed) Trap("an arrival before a wait has seen the phase before complete");
  AddBytes(barrier, bytes);
  if (barrier.pending == 0) Trap("more arrivals than an mbarrier expects");
  barrier.pending = barrier.pending - 1;
  CompleteIfDone(barrier);
}

bool TryWaitAtBarrier(uint64_t* address, uint32_t parity, const char* what) {
  Step();
  Barrier& barrier = BarrierAt(address);
  while (barrier.phase == parity) {
    if (RandomBelow(16) == 0) {  // its time is over
      Yield();
      return false;
    }
    Block({.what = what,
           .on = &barrier,
           .idx = SharedAddressOf(address),
           .found = static_cast<int64_t>(barrier.pending),
           .needed = barrier.bytes});
  }
  barrier.observed = 1;
  return true;
}

uint32_t SwizzledChunk(uint32_t address, int chunk) {
  const uint32_t line = address / 128;
  for (uint32_t place = 0; place < 8; ++place)
    if (kPattern[line % 8][place] == chunk) return line * 128 + place * 16;
  return 0;
}

void BeginCopy(void* shared, const CUtensorMap* map, int column, int row, uint64_t* barrier) {
  Step();
  auto copy = std::make_shared<Copy>();
  std::memcpy(&copy->map, map, sizeof copy->map);
  if (copy->map.magic != kTensorMapMagic) Trap("a tensor map that nobody encoded");
  if (reinterpret_cast<uintptr_t>(map) % 64 != 0) Trap("a tensor map that is not aligned");
  if (copy->map.box_columns * copy->map.element_bytes != kRowBytes)
    Trap("a box that is not 128 bytes wide");
  copy->column = column;
  copy->row = row;
  copy->shared_address = SharedAddressOf(shared);
  const auto rows = static_cast<int>(copy->map.box_rows);
  copy->shared = SharedMemory(copy->shared_address, static_cast<uint32_t>(rows * kRowBytes));
  if (copy->shared_address % 128 != 0) Trap("a copy to an address that is no multiple of 128");
  copy->barrier = &BarrierAt(barrier);
  std::memset(copy->shared, 0xFF, static_cast<size_t>(rows) * kRowBytes);  // nobody may read it
  copy->early = RandomBelow(2) == 0;
  if (copy->early) {
    copy->source.resize(static_cast<size_t>(rows) * kRowBytes);
    for (int i = 0; i < rows; ++i) ReadRow(*copy, i, copy->source.data() + i * kRowBytes);
  }
  GoOn([copy, rows] {
    const int at_once = static_cast<int>(1 + RandomBelow(static_cast<uint64_t>(rows)));
    int landed = 0;
    for (; landed < at_once && copy->landed < rows; ++landed) Land(*copy);
    AddBytes(*copy->barrier, -int64_t{landed} * kRowBytes);
    CompleteIfDone(*copy->barrier);
    return copy->landed < rows;
  });
}

}  // namespace sluice::emulated
