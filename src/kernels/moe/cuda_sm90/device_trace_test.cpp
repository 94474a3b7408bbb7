#include "kernels/moe/cuda_sm90/device_trace.h"

#include <gtest/gtest.h>

#include <string>

namespace sluice::moe_sm90 {
namespace {

void Add(CtaTrace& cta, int warp, Did what, uint32_t begin, uint32_t end, int idx) {
  cta.events[warp][cta.counts[warp]++] = {begin, end, static_cast<uint32_t>(what), idx};
}

TEST(DeviceTrace, PutsEveryMultiprocessorOnOneClock) {
  std::vector<CtaTrace> ctas(3);
  for (size_t c = 0; c < ctas.size(); ++c) {
    ctas[c].begin_ns = 1'000'000 + 100 * c;
    ctas[c].begin_ticks = 77'000 * (c + 1);  // every clock began at another time
    ctas[c].end_ns = ctas[c].begin_ns + 5'000;
    ctas[c].end_ticks = ctas[c].begin_ticks + 10'000;  // half a nanosecond a tick
  }
  Add(ctas[0], 4, Did::kGateUp, 2'000, 4'000, 9);
  Add(ctas[2], 2, Did::kSend, 0, 600, 3);
  const DeviceTrace trace = ReadTrace(ctas);
  ASSERT_EQ(trace.spans.size(), 2u);
  EXPECT_EQ(trace.spans[0].name, std::string("gate/up"));
  EXPECT_EQ(trace.spans[0].begin_ns, 1'000u);
  EXPECT_EQ(trace.spans[0].end_ns, 2'000u);
  EXPECT_EQ(trace.spans[0].idx, 9);
  EXPECT_EQ(trace.spans[1].cta, 2);
  EXPECT_EQ(trace.spans[1].warp, 2);
  EXPECT_EQ(trace.spans[1].begin_ns, 200u);
  EXPECT_EQ(trace.spans[1].end_ns, 500u);
  EXPECT_EQ(trace.end_ns, 5'200u);
  EXPECT_EQ(trace.dropped, 0);
}

TEST(DeviceTrace, CountsWhatHadNoRoomAndNamesWhatItDoesNotKnow) {
  std::vector<CtaTrace> ctas(1);
  ctas[0].counts[5] = kTraceEvents + 12;
  ctas[0].events[5][0].what = 1000;
  const DeviceTrace trace = ReadTrace(ctas);
  EXPECT_EQ(trace.spans.size(), static_cast<size_t>(kTraceEvents));
  EXPECT_EQ(trace.dropped, 12);
  EXPECT_EQ(trace.spans[0].name, std::string("?"));
}

TEST(DeviceTrace, OfNothingIsEmpty) {
  EXPECT_TRUE(ReadTrace({}).spans.empty());
  const std::vector<CtaTrace> garbage(2, CtaTrace{.begin_ns = 5,
                                                  .begin_ticks = 9,
                                                  .end_ns = 1,
                                                  .end_ticks = 2,
                                                  .counts = {-4},
                                                  .events = {}});
  EXPECT_TRUE(ReadTrace(garbage).spans.empty());
}

}  // namespace
}  // namespace sluice::moe_sm90
