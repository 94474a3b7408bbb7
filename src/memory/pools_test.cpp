#include "memory/pools.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <set>

#include "base/random.h"

namespace sluice {
namespace {

CacheLayout SmallLayout() {
  CacheLayout layout;
  layout.kv_layers = 3;
  layout.kv_row_bytes = 48;
  layout.recurrent_layers = 2;
  layout.heads = 3;
  layout.key_dim = 5;
  layout.value_dim = 7;
  layout.block_tokens = 64;
  return layout;
}

TEST(KvPagePool, GivesTheLowestFreePageAndMinusOneWhenEmpty) {
  auto pool = *KvPagePool::Create(SmallLayout(), 4);
  for (int32_t page = 0; page < 4; ++page) EXPECT_EQ(pool.Allocate(), page);
  EXPECT_EQ(pool.Allocate(), -1);
  pool.Free(2);
  pool.Free(1);
  EXPECT_EQ(pool.free_count(), 2);
  EXPECT_EQ(pool.Allocate(), 1);
  EXPECT_EQ(pool.Allocate(), 2);
}

TEST(KvPagePool, PagesOfAllLayersAreDisjointAndWithinTheBuffer) {
  const CacheLayout layout = SmallLayout();
  auto pool = *KvPagePool::Create(layout, 5);
  // Every byte of every (layer, page) is written with its own tag; nothing may be overwritten.
  for (int64_t layer = 0; layer < 3; ++layer)
    for (int64_t page = 0; page < 5; ++page)
      std::memset(pool.LayerBase(layer) + page * pool.page_stride(),
                  static_cast<int>(1 + layer * 5 + page), layout.PageBytesPerLayer());
  for (int64_t layer = 0; layer < 3; ++layer)
    for (int64_t page = 0; page < 5; ++page)
      for (int64_t i = 0; i < layout.PageBytesPerLayer(); ++i)
        ASSERT_EQ(static_cast<int>(pool.LayerBase(layer)[page * pool.page_stride() + i]),
                  1 + layer * 5 + page);
  EXPECT_GE(pool.bytes(), static_cast<uint64_t>(5 * layout.PageBytes()));
}

TEST(KvPagePool, ClearZeroesOnePageInEveryLayer) {
  const CacheLayout layout = SmallLayout();
  auto pool = *KvPagePool::Create(layout, 2);
  for (int64_t layer = 0; layer < 3; ++layer)
    std::memset(pool.LayerBase(layer), 0xFF, 2 * pool.page_stride());
  pool.Clear(1);
  for (int64_t layer = 0; layer < 3; ++layer) {
    EXPECT_EQ(pool.LayerBase(layer)[pool.page_stride() - 1], std::byte{0xFF});
    EXPECT_EQ(pool.LayerBase(layer)[pool.page_stride()], std::byte{0});
    EXPECT_EQ(pool.LayerBase(layer)[2 * pool.page_stride() - 1], std::byte{0});
  }
}

TEST(KvPagePool, WorksWithoutFullAttentionLayers) {
  auto pool = *KvPagePool::Create(CacheLayout{}, 3);
  EXPECT_EQ(pool.bytes(), 0u);
  EXPECT_EQ(pool.Allocate(), 0);
  pool.Clear(0);
  pool.Free(0);
}

TEST(KvPagePool, RefusesSizesThatWrap) {
  CacheLayout layout = SmallLayout();
  EXPECT_EQ(KvPagePool::Create(layout, -1).status().code(), Code::kOutOfMemory);
  EXPECT_EQ(KvPagePool::Create(layout, int64_t{1} << 40).status().code(), Code::kOutOfMemory);
  layout.kv_row_bytes = int64_t{1} << 50;
  EXPECT_EQ(KvPagePool::Create(layout, 1 << 30).status().code(), Code::kOutOfMemory);
}

TEST(KvPagePool, NeverHandsOutAPageTwice) {
  auto pool = *KvPagePool::Create(CacheLayout{}, 50);
  SplitMix64 random(7);
  std::set<int32_t> held;
  for (int step = 0; step < 10000; ++step) {
    if (random.Below(2) == 0) {
      const int32_t page = pool.Allocate();
      if (held.size() == 50)
        ASSERT_EQ(page, -1);
      else
        ASSERT_TRUE(held.insert(page).second);
    } else if (!held.empty()) {
      auto at = held.begin();
      std::advance(at, random.Below(held.size()));
      pool.Free(*at);
      held.erase(at);
    }
    ASSERT_EQ(pool.free_count() + static_cast<int64_t>(held.size()), pool.page_count());
  }
}

TEST(KvPagePoolDeathTest, StopsAtADoubleFree) {
  auto pool = *KvPagePool::Create(CacheLayout{}, 2);
  pool.Allocate();
  pool.Free(0);
  EXPECT_DEATH(pool.Free(0), "allocated_?\\[");
}

TEST(RecurrentPool, StateKeysAndValuesAreDisjointAndAligned) {
  const CacheLayout layout = SmallLayout();
  auto pool = *RecurrentPool::Create(layout, 3);
  int tag = 0;
  const auto each = [&](auto&& visit) {
    tag = 0;
    for (int32_t slot = 0; slot < 3; ++slot)
      for (int64_t layer = 0; layer < 2; ++layer) {
        visit(pool.State(slot, layer), 3 * 5 * 7 * 4);
        visit(pool.Keys(slot, layer), 3 * 64 * 5 * 4);
        visit(pool.Values(slot, layer), 3 * 64 * 7 * 2);
      }
  };
  each([&](void* p, int64_t bytes) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 64, 0u);
    std::memset(p, ++tag, bytes);
  });
  each([&](void* p, int64_t bytes) {
    ++tag;
    for (int64_t i = 0; i < bytes; ++i) ASSERT_EQ(static_cast<unsigned char*>(p)[i], tag);
  });
}

TEST(RecurrentPool, SlotsAreGivenBackAndCleared) {
  auto pool = *RecurrentPool::Create(SmallLayout(), 2);
  EXPECT_EQ(pool.Allocate(), 0);
  EXPECT_EQ(pool.Allocate(), 1);
  EXPECT_EQ(pool.Allocate(), -1);
  pool.State(1, 1)[0] = std::numeric_limits<float>::quiet_NaN();
  pool.State(0, 0)[0] = 3;
  pool.Clear(1);
  EXPECT_EQ(pool.State(1, 1)[0], 0);
  EXPECT_EQ(pool.State(0, 0)[0], 3);
  pool.Free(0);
  EXPECT_EQ(pool.free_count(), 1);
}

}  // namespace
}  // namespace sluice
