#include <gmock/gmock.h>
#include <sched.h>

#include <atomic>
#include <cstdio>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <vector>

#include "base/check.h"
#include "base/machine.h"
#include "base/mapped_file.h"
#include "base/random.h"
#include "base/team.h"
#include "base/trace.h"
#include "base/units.h"

namespace sluice {
namespace {

using testing::HasSubstr;

Result<int> Half(int x) {
  if (x % 2) return ParamError(Code::kInvalidArgument, "x", "x is {}, allowed are even numbers", x);
  return x / 2;
}

Result<int> Quarter(int x) {
  TRY(const int half, Half(x));
  return Half(half);
}

TEST(Status, TryPassesTheFirstErrorOn) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_THAT(Quarter(6).status().message(), HasSubstr("x is 3"));
  EXPECT_EQ(Quarter(6).status().param(), "x");
}

TEST(Status, QuotedNeverBreaksACharacterAndEscapesHostileBytes) {
  EXPECT_EQ(Quoted("plain"), "\"plain\"");
  EXPECT_EQ(Quoted("a\x01\xff\"b"), "\"a\\x01\\xff\\\"b\"");
  EXPECT_EQ(Quoted("a\u00e9", 2), "\"a\"...");
  EXPECT_EQ(Quoted("a\u00e9", 3), "\"a\u00e9\"");
}

TEST(Random, PhiloxMatchesThePublishedVector) {
  // Random123's known-answer test for philox4x32-10 with all-zero key and counter.
  EXPECT_THAT(Philox(0, 0, 0),
              testing::ElementsAre(0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u));
}

TEST(Team, PinnedLanesHaveAProcessorEachAlsoWhenTheCallerWasBoundBefore) {
  cpu_set_t before, after;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  {
    const PinnedCaller pinned;
    Team team(CPU_COUNT(&before), true);
    std::vector<int> processors(team.lanes());
    team.Run([&](int lane) { processors[lane] = sched_getcpu(); });
    EXPECT_EQ(std::set<int>(processors.begin(), processors.end()).size(), processors.size());
  }
  ASSERT_EQ(sched_getaffinity(0, sizeof after, &after), 0);
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

TEST(Team, RunsEveryLaneOnceAndParallelForCoversTheRange) {
  for (int lanes : {1, 2, 5}) {
    Team team(lanes);
    for (int round = 0; round < 200; ++round) {
      std::vector<std::atomic<int>> calls(lanes);
      team.Run([&](int lane) { ++calls[lane]; });
      for (auto& count : calls) EXPECT_EQ(count.load(), 1);
      std::vector<int> covered(103);
      team.ParallelFor(103, 8, [&](int64_t begin, int64_t end) {
        EXPECT_EQ(begin % 8, 0);
        for (int64_t i = begin; i < end; ++i) ++covered[i];
      });
      EXPECT_THAT(covered, testing::Each(1));
    }
  }
}

TEST(Team, BarrierSeparatesPhases) {
  Team team(3);
  for (int round = 0; round < 100; ++round) {
    std::atomic<int> first{0};
    std::atomic<bool> early{false};
    team.Run([&](int) {
      ++first;
      team.Barrier();
      if (first.load() != 3) early = true;
      team.Barrier();
    });
    EXPECT_FALSE(early.load());
  }
}

TEST(Team, BarrierHasWaitersDoWorkUntilItEndsOrIsDone) {
  Team team(3);
  for (int round = 0; round < 100; ++round) {
    std::atomic<int> arrived{0};
    std::atomic<bool> early{false}, too_much{false};
    team.Run([&](int lane) {
      ++arrived;
      int left = lane * 10;
      team.Barrier([&] {
        too_much = too_much || left < 0;
        return --left >= 0;
      });
      early = early || arrived.load() != 3;
    });
    EXPECT_FALSE(early.load());
    EXPECT_FALSE(too_much.load());
  }
}

TEST(Team, WakesHelpersThatWentToSleep) {
  Team team(2);
  std::atomic<int> calls{0};
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    team.Run([&](int) { ++calls; });
  }
  EXPECT_EQ(calls.load(), 6);
}

TEST(Machine, RefusesUnknownAndAbsentInstructionSets) {
  EXPECT_THAT(LimitedMachine("sse").status().message(), HasSubstr("\"sse\""));
  EXPECT_TRUE(LimitedMachine("avx2").ok());
  EXPECT_EQ(LimitedMachine("avx2")->features, uint32_t{kAvx2});
  if (const auto dots = LimitedMachine("avx512_bf16"); dots.ok()) {  // forced where it is slow, too
    EXPECT_TRUE(dots->Has(kFastBf16Dot));
    EXPECT_FALSE(LimitedMachine("avx512")->Has(kFastBf16Dot));
  }
  if (const auto vbmi = LimitedMachine("avx512_vbmi"); vbmi.ok()) {
    EXPECT_TRUE(vbmi->Has(kAvx512 | kAvx512Vbmi));
    EXPECT_FALSE(vbmi->Has(kFastBf16Dot));
  }
  if (!ThisMachine().Has(kAmxBf16)) {
    EXPECT_EQ(LimitedMachine("amx").status().code(), Code::kUnsupported);
  }
  EXPECT_GE(UsableCores(), 1);
  EXPECT_GT(MemoryLimitBytes(), MemoryAvailableBytes() / 2);
}

TEST(MappedFile, RefusesWhatIsNoRegularFileAndReadsTheRest) {
  const std::string path = testing::TempDir() + "mapped_file_test";
  std::ofstream(path) << "hello";
  auto file = MappedFile::Open(path);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(file->size(), 5u);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(file->data()), 5), "hello");
  EXPECT_EQ(*ReadFile(path, 5), "hello");
  EXPECT_THAT(ReadFile(path, 4).status().message(), HasSubstr("5 bytes, allowed are 4"));
  std::ofstream(path) << "hi";  // truncates
  EXPECT_EQ(file->SizeOnDisk(), 2u);
  EXPECT_EQ(MappedFile::Open(testing::TempDir()).status().code(), Code::kBadCheckpoint);
  EXPECT_EQ(MappedFile::Open(path + ".absent").status().code(), Code::kNotFound);
  std::remove(path.c_str());
}

TEST(Units, ReadWell) {
  EXPECT_EQ(FormatBytes(512), "512 B");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatCount(1'012'231'160'320), "1.012T");
}

TEST(Trace, SumsSpansByName) {
  trace::Enable();
  { trace::Span span("base_test"); }
  { trace::Span span("base_test"); }
  bool found = false;
  for (const trace::Total& total : trace::Totals())
    if (std::string_view(total.name) == "base_test") {
      found = true;
      EXPECT_EQ(total.count, 2);
    }
  EXPECT_TRUE(found);
  trace::Disable();
  trace::Reset();
}

TEST(Trace, KeepsStagesOfEveryLaneAtTheLevelOfStagesOnly) {
  Team team(3);
  const auto run = [&] {
    trace::Reset();
    team.Run([](int lane) {
      const trace::Stage outer("outer");
      const trace::Stage inner("inner", 100 + lane);
    });
    team.Run([](int) {});
    trace::Disable();
    return trace::Events();
  };
  trace::Enable();
  EXPECT_TRUE(run().empty());
  trace::Enable(trace::Level::kStages);
  std::map<int, std::vector<trace::Event>> work;  // by thread, without waiting
  for (const trace::Event& event : run())
    if (std::string_view(event.name) != "waiting") work[event.thread].push_back(event);
  ASSERT_EQ(work.size(), 3u);
  std::set<int64_t> bytes;
  for (const auto& [thread, events] : work) {
    ASSERT_EQ(events.size(), 2u);
    EXPECT_STREQ(events[0].name, "inner");
    EXPECT_GE(events[0].begin_ns, events[1].begin_ns);
    EXPECT_LE(events[0].end_ns, events[1].end_ns);
    bytes.insert(events[0].bytes);
  }
  EXPECT_EQ(bytes, (std::set<int64_t>{100, 101, 102}));
  trace::Reset();
}

TEST(Trace, IsWrittenWithATrackForEachThread) {
  trace::Reset();
  trace::Enable(trace::Level::kStages);
  Team team(2);
  team.Run([](int) { const trace::Stage stage("written", 7); });
  trace::Disable();
  const std::string path = testing::TempDir() + "/trace.json";
  ASSERT_TRUE(trace::WriteChromeTrace(path).ok());
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  EXPECT_THAT(text.str(), HasSubstr(R"("args":{"name":"lane 1"})"));
  EXPECT_THAT(text.str(), HasSubstr(R"("args":{"bytes":7})"));
  std::remove(path.c_str());
  trace::Reset();
}

TEST(CheckDeathTest, PrintsBothOperands) {
  const int two = 2;
  EXPECT_DEATH(CHECK_EQ(two, 3), "two == 3 \\(2 vs 3\\)");
}

}  // namespace
}  // namespace sluice
