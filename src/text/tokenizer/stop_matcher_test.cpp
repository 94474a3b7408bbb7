#include "text/tokenizer/stop_matcher.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/random.h"

namespace sluice {
namespace {

StopMatcher Make(const std::vector<std::string>& stops, bool keep_matched = false) {
  auto matcher = StopMatcher::Create(stops, keep_matched);
  EXPECT_TRUE(matcher.ok()) << matcher.status().message();
  return *std::move(matcher);
}

TEST(StopMatcher, HoldsBackWhatMayBecomeAStopString) {
  StopMatcher matcher = Make({"</end>", "STOP"});
  EXPECT_EQ(matcher.Push("ab</e").text, "ab");
  EXPECT_EQ(matcher.Push("x ST").text, "</ex ");
  EXPECT_EQ(matcher.Flush(), "ST");
}

TEST(StopMatcher, ReportsTheStringAndTrimsIt) {
  StopMatcher matcher = Make({"zzz", "STOP"});
  EXPECT_EQ(matcher.Push("one S").matched, -1);
  const StopOutput output = matcher.Push("TOP two");
  EXPECT_EQ(output.text, "");
  EXPECT_EQ(output.matched, 1);
  EXPECT_EQ(matcher.Push("three").text, "");
  EXPECT_EQ(matcher.Push("three").matched, 1);
  EXPECT_EQ(matcher.Flush(), "");
  StopMatcher keeping = Make({"STOP"}, true);
  EXPECT_EQ(keeping.Push("one STOP two").text, "one STOP");
}

TEST(StopMatcher, PassesEverythingWithoutStopStrings) {
  StopMatcher matcher;
  EXPECT_EQ(matcher.Push("abc").text, "abc");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcher, RefusesImpossibleLists) {
  EXPECT_FALSE(StopMatcher::Create(std::vector<std::string>{"a", ""}, false).ok());
  EXPECT_FALSE(StopMatcher::Create(std::vector<std::string>(17, "a"), false).ok());
  EXPECT_FALSE(StopMatcher::Create(std::vector<std::string>{std::string(257, 'a')}, false).ok());
  EXPECT_TRUE(StopMatcher::Create(std::vector<std::string>(16, std::string(256, 'a')), false).ok());
}

// The definition: the earliest end, then the longest string, then the first in the list.
StopOutput ByDefinition(std::string_view text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    int best = -1;
    for (size_t i = 0; i < stops.size(); ++i)
      if (text.substr(0, end).ends_with(stops[i]) &&
          (best < 0 || stops[i].size() > stops[best].size()))
        best = static_cast<int>(i);
    if (best >= 0) return {std::string(text.substr(0, end - stops[best].size())), best};
  }
  return {std::string(text), -1};
}

TEST(StopMatcher, GivesTheSameTextAtEverySplit) {
  for (uint64_t seed = 0; seed < 5000; ++seed) {
    SplitMix64 random(seed);
    const auto random_text = [&](uint64_t length_max) {
      std::string text;
      for (uint64_t i = random.Below(length_max) + 1; i > 0; --i)
        text += static_cast<char>('a' + random.Below(3));
      return text;
    };
    std::vector<std::string> stops;
    for (uint64_t i = random.Below(4) + 1; i > 0; --i) stops.push_back(random_text(6));
    const std::string text = random_text(30);
    const StopOutput expected = ByDefinition(text, stops);
    StopMatcher matcher = Make(stops);
    std::string joined;
    int matched = -1;
    for (size_t at = 0; at < text.size() && matched < 0;) {
      const size_t bytes = random.Below(4);
      const StopOutput output = matcher.Push(std::string_view(text).substr(at, bytes));
      joined += output.text;
      matched = output.matched;
      at = std::min(at + bytes, text.size());
      EXPECT_TRUE(expected.text.starts_with(joined)) << "seed " << seed;
      if (matched >= 0) break;
      const std::string held = text.substr(joined.size(), at - joined.size());
      const bool is_needed = std::any_of(stops.begin(), stops.end(),
                                         [&](const auto& stop) { return stop.starts_with(held); });
      EXPECT_TRUE(is_needed) << "seed " << seed << " holds back " << held;
    }
    joined += matcher.Flush();
    EXPECT_EQ(joined, expected.text) << "seed " << seed;
    EXPECT_EQ(matched, expected.matched) << "seed " << seed;
  }
}

}  // namespace
}  // namespace sluice
