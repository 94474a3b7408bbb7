#include "engine/lane_shares.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class LaneSharesTest : public testing::Test {
 protected:
  void Add(int64_t computed, int64_t rows) {
    CoreRequest in;
    in.prompt.assign(static_cast<size_t>(computed + rows), 7);
    requests_.push_back(std::make_unique<Request>(std::move(in)));
    requests_.back()->computed = computed;
    items_.push_back({requests_.back().get(), rows, true});
  }

  /// The number of items of each share, and that they are all the items in order.
  std::vector<size_t> Cut(int lanes) {
    std::vector<std::span<const StepItem>> shares;
    ShareSequences(items_, lanes, &shares);
    std::vector<size_t> counts;
    size_t next = 0;
    for (const auto& share : shares) {
      EXPECT_EQ(share.data(), items_.data() + next);
      next += share.size();
      counts.push_back(share.size());
    }
    EXPECT_TRUE(shares.empty() || next == items_.size());
    return counts;
  }

  std::vector<std::unique_ptr<Request>> requests_;
  std::vector<StepItem> items_;
};

TEST_F(LaneSharesTest, DecodingRequestsAreDividedEvenly) {
  for (int i = 0; i < 16; ++i) Add(100, 1);
  EXPECT_THAT(Cut(2), ElementsAre(8, 8));
  EXPECT_THAT(Cut(4), ElementsAre(4, 4, 4, 4));
  EXPECT_THAT(Cut(3), ElementsAre(5, 6, 5));
}

TEST_F(LaneSharesTest, ALongContextCountsForMore) {
  for (int i = 0; i < 7; ++i) Add(10, 1);
  Add(6 * 1024, 1);
  EXPECT_THAT(Cut(2), ElementsAre(7, 1));
}

TEST_F(LaneSharesTest, OneSequenceBelongsToTheWholeTeam) {
  Add(100, 1);
  EXPECT_THAT(Cut(2), IsEmpty());
}

TEST_F(LaneSharesTest, AStepThatWouldLeaveLanesIdleBelongsToTheWholeTeam) {
  for (int i = 0; i < 4; ++i) Add(10, 1);
  Add(0, 40);
  EXPECT_THAT(Cut(2), IsEmpty());
}

TEST_F(LaneSharesTest, LongShareBelongsToTheWholeTeam) {
  Add(0, kLaneRowsMax);
  Add(0, kLaneRowsMax);
  EXPECT_THAT(Cut(2), ElementsAre(1, 1));
  Add(0, 2);
  EXPECT_THAT(Cut(2), IsEmpty());
}

TEST_F(LaneSharesTest, MoreLanesThanSequencesLeaveEmptyLanes) {
  for (int i = 0; i < 7; ++i) Add(100, 1);
  EXPECT_THAT(Cut(8), ElementsAre(1, 1, 1, 1, 1, 1, 1));
  items_.resize(3);
  EXPECT_THAT(Cut(8), IsEmpty());
}

}  // namespace
}  // namespace sluice
