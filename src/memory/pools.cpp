#include "memory/pools.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>

#include "base/check.h"

namespace sluice {
namespace {

/// A min-heap of 0 .. count-1: already in heap order.
std::vector<int32_t> AllFree(int64_t count) {
  std::vector<int32_t> free(count);
  for (int64_t i = 0; i < count; ++i) free[i] = static_cast<int32_t>(i);
  return free;
}

int32_t PopLowest(std::vector<int32_t>& free, std::vector<bool>& allocated) {
  if (free.empty()) return -1;
  std::pop_heap(free.begin(), free.end(), std::greater<>());
  const int32_t index = free.back();
  free.pop_back();
  allocated[index] = true;
  return index;
}

void PushFree(int32_t index, std::vector<int32_t>& free, std::vector<bool>& allocated) {
  CHECK_GE(index, 0);
  CHECK_LT(index, static_cast<int64_t>(allocated.size()));
  CHECK(allocated[index]);
  allocated[index] = false;
  free.push_back(index);  // within the capacity reserved by AllFree
  std::push_heap(free.begin(), free.end(), std::greater<>());
}

/// count * unit bytes, refused where a number of either kind would wrap.
Result<Buffer> AllocateUnits(int64_t count, int64_t unit_bytes, const char* what) {
  if (count < 0 || count > std::numeric_limits<int32_t>::max())
    return Error(Code::kOutOfMemory, "{}: {} of them, allowed are 0 to {}", what, count,
                 std::numeric_limits<int32_t>::max());
  uint64_t bytes;
  if (__builtin_mul_overflow(static_cast<uint64_t>(count), static_cast<uint64_t>(unit_bytes),
                             &bytes))
    return Error(Code::kOutOfMemory, "{}: {} times {} bytes overflow", what, count, unit_bytes);
  return Buffer::Allocate(bytes, what);
}

}  // namespace

Result<KvPagePool> KvPagePool::Create(const CacheLayout& layout, int64_t pages) {
  TRY(Buffer buffer, AllocateUnits(pages, layout.PageBytes(), "KV pages"));
  KvPagePool pool;
  pool.layout_ = layout;
  pool.page_count_ = pages;
  pool.free_ = AllFree(pages);
  pool.allocated_.assign(pages, false);
  pool.buffer_ = std::move(buffer);
  return pool;
}

int32_t KvPagePool::Allocate() { return PopLowest(free_, allocated_); }

void KvPagePool::Free(int32_t page) { PushFree(page, free_, allocated_); }

std::byte* KvPagePool::LayerBase(int64_t layer) const {
  DCHECK(layer >= 0 && layer < layout_.kv_layers);
  return buffer_.data() + layer * page_count_ * page_stride();
}

void KvPagePool::Clear(int32_t page) {
  for (int64_t layer = 0; layer < layout_.kv_layers; ++layer)
    std::memset(LayerBase(layer) + page * page_stride(), 0, page_stride());
}

Result<RecurrentPool> RecurrentPool::Create(const CacheLayout& layout, int64_t slots) {
  TRY(Buffer buffer, AllocateUnits(slots, layout.SlotBytes(), "recurrent states"));
  RecurrentPool pool;
  pool.layout_ = layout;
  pool.slot_count_ = slots;
  pool.free_ = AllFree(slots);
  pool.allocated_.assign(slots, false);
  pool.buffer_ = std::move(buffer);
  return pool;
}

int32_t RecurrentPool::Allocate() { return PopLowest(free_, allocated_); }

void RecurrentPool::Free(int32_t slot) { PushFree(slot, free_, allocated_); }

std::byte* RecurrentPool::Layer(int32_t slot, int64_t layer) const {
  DCHECK(slot >= 0 && slot < slot_count_);
  DCHECK(layer >= 0 && layer < layout_.recurrent_layers);
  return buffer_.data() + slot * layout_.SlotBytes() + layer * layout_.SlotBytesPerLayer();
}

float* RecurrentPool::State(int32_t slot, int64_t layer) const {
  return reinterpret_cast<float*>(Layer(slot, layer));
}

float* RecurrentPool::Keys(int32_t slot, int64_t layer) const {
  return reinterpret_cast<float*>(Layer(slot, layer) + layout_.StateBytesPerLayer());
}

void* RecurrentPool::Values(int32_t slot, int64_t layer) const {
  return Layer(slot, layer) + layout_.StateBytesPerLayer() + layout_.KeyBufferBytesPerLayer();
}

void RecurrentPool::Clear(int32_t slot) {
  if (layout_.SlotBytes() == 0) return;
  std::memset(buffer_.data() + slot * layout_.SlotBytes(), 0, layout_.SlotBytes());
}

}  // namespace sluice
