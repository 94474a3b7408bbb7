#include "text/tokenizer/detokenizer.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "text/tokenizer/test_files.h"
#include "text/tokenizer/utf8.h"

namespace sluice {
namespace {

std::unique_ptr<Tokenizer> Bytes() {
  auto tokenizer = Tokenizer::FromJson(test::MakeJson(
      {.merges = {{"\u00F0", "\u0141"}}, .added_tokens = test::Added(300, "<|end|>", true)}));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return *std::move(tokenizer);
}

TEST(Detokenizer, HoldsACharacterUntilItIsComplete) {
  const auto t = Bytes();
  Detokenizer detokenizer(*t, true);
  EXPECT_EQ(detokenizer.Push('a'), "a");
  EXPECT_EQ(detokenizer.Push(0xF0), "");
  EXPECT_EQ(detokenizer.Push(0x9F), "");
  EXPECT_EQ(detokenizer.Push(300), "");  // skipped, and does not break the character
  EXPECT_EQ(detokenizer.Push(0x99), "");
  EXPECT_EQ(detokenizer.Push(0x82), "\U0001F642");
  EXPECT_EQ(detokenizer.Push(0xE4), "");
  EXPECT_EQ(detokenizer.Push('b'), "\uFFFDb");
  EXPECT_EQ(detokenizer.Push(0xC3), "");
  EXPECT_EQ(detokenizer.Flush(), "\uFFFD");
  EXPECT_EQ(detokenizer.Flush(), "");
}

TEST(Detokenizer, JoinsToTheDecodedWholeAndNeverBreaksACharacter) {
  const auto t = Bytes();
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    SplitMix64 random(seed);
    std::vector<int32_t> ids;
    for (uint64_t i = random.Below(30); i > 0; --i) {
      constexpr int32_t kLikely[] = {0xC3, 0xA9, 0xE4, 0xBD, 0xA0, 0xF0, 0x9F,
                                     0x99, 0x82, 0xED, 0xF4, 256,  300,  301};
      ids.push_back(random.Below(4) ? kLikely[random.Below(std::size(kLikely))]
                                    : static_cast<int32_t>(random.Below(256)));
    }
    for (const bool skip_special : {false, true}) {
      Detokenizer detokenizer(*t, skip_special);
      std::string joined;
      for (const int32_t id : ids) {
        const std::string piece = detokenizer.Push(id);
        EXPECT_EQ(ValidPrefix(piece), piece.size()) << "seed " << seed;
        joined += piece;
      }
      joined += detokenizer.Flush();
      EXPECT_EQ(joined, t->Decode(ids, skip_special)) << "seed " << seed;
    }
  }
}

}  // namespace
}  // namespace sluice
