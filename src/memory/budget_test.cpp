#include "memory/budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint64_t kMiB = 1 << 20;

// 64 KiB a page (1 KiB a token), 1 MiB + 512 KiB + 256 KiB a slot.
BudgetInput Input(uint64_t limit_mib) {
  BudgetInput in;
  in.limit_bytes = limit_mib * kMiB;
  in.static_fraction = 0.5;
  in.weight_bytes = 100 * kMiB;
  in.scratch_bytes = 10 * kMiB;
  in.layout = {.kv_layers = 2,
               .kv_row_bytes = 512,
               .recurrent_layers = 4,
               .heads = 4,
               .key_dim = 128,
               .value_dim = 128,
               .block_tokens = 64};
  in.context_length = 4096;
  return in;
}

TEST(PlanMemory, DividesWhatIsLeftByTheRatio) {
  BudgetInput in = Input(2000);  // 1000 static, 890 left
  in.context_length = 1 << 20;
  in.context_is_explicit = false;
  in.max_total_tokens = 0;
  in.state_memory_ratio = 1;
  in.max_running_requests = 10000;
  in.context_length = 131072;
  const Budget b = *PlanMemory(in);
  EXPECT_EQ(b.state_slots, static_cast<int64_t>(445 * kMiB / in.layout.SlotBytes()));
  EXPECT_NEAR(static_cast<double>(b.kv_bytes), 445.0 * kMiB, 2.0 * kMiB);
  EXPECT_LE(b.weight_bytes + b.scratch_bytes + b.kv_bytes + b.state_bytes, b.static_bytes);
  EXPECT_EQ(b.running_requests, b.state_slots);
}

TEST(PlanMemory, ASmallModelTakesOnlyWhatItCanUse) {
  BudgetInput in = Input(1 << 20);  // a TiB
  const Budget b = *PlanMemory(in);
  EXPECT_EQ(b.running_requests, kRunningRequestsDefault);
  EXPECT_EQ(b.state_slots, kRunningRequestsDefault);
  EXPECT_EQ(b.max_total_tokens(), kRunningRequestsDefault * 4096);
}

TEST(PlanMemory, HonoursWhatTheUserSet) {
  BudgetInput in = Input(4000);
  in.max_running_requests = 8;
  in.max_recurrent_state_size = 20;
  in.max_total_tokens = 1000;
  const Budget b = *PlanMemory(in);
  EXPECT_EQ(b.running_requests, 8);
  EXPECT_EQ(b.state_slots, 20);
  EXPECT_EQ(b.max_total_tokens(), 960);  // whole pages
  in.max_total_tokens = 1;
  EXPECT_EQ(PlanMemory(in)->kv_pages, 1);
  in.max_recurrent_state_size = 2;
  EXPECT_EQ(PlanMemory(in)->running_requests, 2);
}

TEST(PlanMemory, StatesGiveWayToOneWholeRequest) {
  BudgetInput in = Input(2000);
  in.context_length = 880 * 1024;  // 880 MiB of the 890 left
  const Budget b = *PlanMemory(in);
  EXPECT_EQ(b.context_length, in.context_length);
  EXPECT_EQ(b.state_slots, static_cast<int64_t>(10 * kMiB / in.layout.SlotBytes()));
}

TEST(PlanMemory, ReducesAContextThatNobodyAskedFor) {
  BudgetInput in = Input(2000);
  in.context_length = 1 << 21;
  const Budget b = *PlanMemory(in);
  EXPECT_EQ(b.state_slots, 1);
  EXPECT_LT(b.context_length, in.context_length);
  EXPECT_GT(b.context_length, 800 * 1024);
  EXPECT_EQ(b.context_wanted, in.context_length);
  EXPECT_EQ(b.max_total_tokens(), b.context_length);

  in.context_is_explicit = true;
  const Status status = PlanMemory(in).status();
  EXPECT_EQ(status.code(), Code::kOutOfMemory);
  EXPECT_THAT(status.message(), HasSubstr("KV of 2097152 tokens (context-length)"));
  EXPECT_THAT(status.message(), HasSubstr("leaves 890 MiB"));
}

TEST(PlanMemory, RefusesWithFigures) {
  EXPECT_THAT(PlanMemory(Input(200)).status().message(),
              HasSubstr("minus weights 100 MiB and scratch 10 MiB leaves 0 B"));
  BudgetInput in = Input(2000);
  in.max_total_tokens = 1 << 21;
  EXPECT_THAT(PlanMemory(in).status().message(),
              HasSubstr("KV of 2097152 tokens (max-total-tokens)"));
  in = Input(2000);
  in.max_recurrent_state_size = 100000;
  EXPECT_THAT(PlanMemory(in).status().message(), HasSubstr("for 100000 recurrent state(s)"));
  in = Input(2000);
  in.static_fraction = 0;
  EXPECT_EQ(PlanMemory(in).status().param(), "mem-fraction-static");
  in = Input(2000);
  in.state_memory_ratio = -1;
  EXPECT_EQ(PlanMemory(in).status().param(), "recurrent-state-memory-ratio");
}

TEST(PlanMemory, KnowsModelsWithoutOneKindOfLayer) {
  BudgetInput in = Input(2000);
  in.layout.recurrent_layers = 0;
  EXPECT_EQ(PlanMemory(in)->state_slots, kRunningRequestsDefault);
  in = Input(2000);
  in.layout.kv_layers = 0;
  EXPECT_EQ(PlanMemory(in)->kv_bytes, 0u);
  EXPECT_EQ(PlanMemory(in)->max_total_tokens(), PlanMemory(in)->running_requests * 4096);
}

TEST(MemoryTable, ShowsBytesTokensAndRequests) {
  const BudgetInput in = Input(2000);
  const std::string table = MemoryTable(*PlanMemory(in), in.layout);
  EXPECT_THAT(table, HasSubstr("weights"));
  EXPECT_THAT(table, HasSubstr("tokens, 1024 B a token"));
  EXPECT_THAT(table, HasSubstr("requests, 1.75 MiB each: state 1 MiB, block buffers 768 KiB"));
}

TEST(MemoryTable, LeavesOutStatesWhereNoLayerHasOne) {
  BudgetInput in = Input(2000);
  in.layout.recurrent_layers = 0;
  EXPECT_THAT(MemoryTable(*PlanMemory(in), in.layout), Not(HasSubstr("states")));
}

}  // namespace
}  // namespace sluice
