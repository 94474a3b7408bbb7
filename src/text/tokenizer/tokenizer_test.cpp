#include "text/tokenizer/tokenizer.h"

#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "base/random.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/nfc.h"
#include "text/tokenizer/test_files.h"

namespace sluice {
namespace {

using test::Added;
using test::FileParts;
using test::MakeJson;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::unique_ptr<Tokenizer> Make(const FileParts& parts) {
  auto tokenizer = Tokenizer::FromJson(MakeJson(parts));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

TEST(Tokenizer, MergesTheLowestRankFirstAndTheLeftmostOfEqualOnes) {
  const auto t = Make({.merges = {{"b", "c"}, {"a", "b"}, {"a", "a"}, {"aa", "a"}, {"bc", "bc"}}});
  EXPECT_THAT(t->Encode("abc"), ElementsAre('a', 256));
  EXPECT_THAT(t->Encode("abab"), ElementsAre(257, 257));
  EXPECT_THAT(t->Encode("aaaaa"), ElementsAre(258, 259));
  EXPECT_THAT(t->Encode("bcbcbc"), ElementsAre(260, 256));
  EXPECT_THAT(t->Encode(""), IsEmpty());
}

// The definition: rescan everything for every merge.
std::vector<int32_t> MergeByDefinition(const std::string& piece, const MergeTable& merges) {
  std::vector<int32_t> ids;
  for (const char c : piece) ids.push_back(static_cast<uint8_t>(c));
  while (true) {
    MergeTable::Merge best;
    size_t best_at = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const MergeTable::Merge merge = merges.Find(ids[i], ids[i + 1]);
      if (merge.rank < best.rank) best = merge, best_at = i;
    }
    if (best.rank == MergeTable::kNoRank) return ids;
    ids[best_at] = best.id;
    ids.erase(ids.begin() + static_cast<ptrdiff_t>(best_at) + 1);
  }
}

TEST(Tokenizer, MergesPiecesOfEveryLengthByTheDefinition) {
  for (uint64_t seed = 0; seed < 25; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    SplitMix64 random(seed);
    BpeModel model;
    for (int byte = 0; byte < 256; ++byte) model.byte_ids[byte] = byte;
    model.merges = MergeTable(200);
    // Ranks in no order of creation: a merge may enable one of lower rank.
    for (int i = 0; i < 200; ++i) {
      const auto part = [&] {
        return static_cast<int32_t>(random.Below(3) ? 'a' + random.Below(4)
                                                    : 256 + random.Below(i + 1));
      };
      model.merges.Set(part(), part(),
                       {static_cast<uint32_t>(random.Below(1000)) * 256 + i, 256 + i});
    }
    const Vocabulary vocabulary;
    BpeScratch scratch;
    for (int length = 1; length < 1500; length = length * 5 / 4 + 3) {
      std::string piece;
      for (int i = 0; i < length; ++i) piece += static_cast<char>('a' + random.Below(4));
      std::vector<int32_t> first, cached;
      model.Encode(piece, vocabulary, &scratch, &first);
      model.Encode(piece, vocabulary, &scratch, &cached);
      EXPECT_EQ(first, MergeByDefinition(piece, model.merges));
      EXPECT_EQ(first, cached);
    }
  }
}

TEST(Tokenizer, MergesTokensLongerThanAWindow) {
  FileParts parts;
  std::string half = "a";  // aa, aaaa, ... 1024 times a
  for (int i = 0; i < 10; ++i, half += half) parts.merges.emplace_back(half, half);
  const auto t = Make(parts);
  EXPECT_THAT(t->Encode(std::string(3 * 1024 + 5, 'a')), ElementsAre(265, 265, 265, 257, 'a'));
}

TEST(Tokenizer, ReadsMergesAsStringsAndAsPairs) {
  std::string json = MakeJson({.merges = {{"a", "b"}}});
  const auto strings = Tokenizer::FromJson(json);
  json.replace(json.find("\"a b\""), 5, "[\"a\",\"b\"]");
  const auto pairs = Tokenizer::FromJson(json);
  ASSERT_TRUE(strings.ok() && pairs.ok());
  EXPECT_EQ((*strings)->Encode("cabs"), (*pairs)->Encode("cabs"));
  EXPECT_THAT((*pairs)->Encode("cabs"), ElementsAre('c', 256, 's'));
}

TEST(Tokenizer, PrefersAWholeTokenToItsMergesWhereTheFileSaysSo) {
  FileParts parts{.merges = {{"a", "b"}}, .more_vocab = R"(,"abc":300)"};
  EXPECT_THAT(Make(parts)->Encode("abc"), ElementsAre(256, 'c'));
  parts.more_model = R"(,"ignore_merges":true)";
  EXPECT_THAT(Make(parts)->Encode("abc abcd"), ElementsAre(300, ' ', 256, 'c', 'd'));
}

TEST(Tokenizer, RoundTripsAnyBytesWithReplacementOfWhatIsNotUtf8) {
  const auto t = Make({.merges = {{"\u00C3", "\u00A9"}}});  // the bytes of U+00E9
  EXPECT_THAT(t->Encode("\u00E9"), ElementsAre(256));
  EXPECT_EQ(t->Decode(t->Encode("a\u00E9\U0001F642\n"), false), "a\u00E9\U0001F642\n");
  EXPECT_EQ(t->Decode(t->Encode("a\xFF\xE4\xBD z\xF0\x9F"), false), "a\uFFFD\uFFFD z\uFFFD");
  EXPECT_EQ(t->Decode(t->Encode(std::string_view("\0x", 2)), false), std::string_view("\0x", 2));
  EXPECT_EQ(t->Decode(std::vector<int32_t>{0xC3, 'a', 0xE4, 0xBD, 999, -5}, false),
            "\uFFFDa\uFFFD");
}

const std::string kChatTokens = Added(1000, "<|end|>", true) + "," + Added(1001, "<think>", false) +
                                "," + Added(1002, "[L]", true, R"(,"lstrip":true)") + "," +
                                Added(1003, "[R]", true, R"(,"rstrip":true)") + "," +
                                Added(1004, "word", false, R"(,"single_word":true)") + "," +
                                Added(1005, "<|end|>>", true);

TEST(Tokenizer, FindsAddedTokensAsTokenizersDoes) {
  const auto t = Make({.added_tokens = kChatTokens});
  EXPECT_THAT(t->Encode("a<|end|>b"), ElementsAre('a', 1000, 'b'));
  EXPECT_THAT(t->Encode("<|end|>>"), ElementsAre(1005));
  EXPECT_THAT(t->Encode("<|end|<|end|>"), ElementsAre('<', '|', 'e', 'n', 'd', '|', 1000));
  EXPECT_THAT(t->Encode("a \u00A0[L] b"), ElementsAre('a', 1002, ' ', 'b'));
  EXPECT_THAT(t->Encode("a [R] \nb"), ElementsAre('a', ' ', 1003, 'b'));
  EXPECT_THAT(t->Encode("word sword"), ElementsAre(1004, ' ', 's', 'w', 'o', 'r', 'd'));
  EXPECT_THAT(t->Encode("(word)"), ElementsAre('(', 1004, ')'));
}

TEST(Tokenizer, TreatsSpecialTextAsPlainWhereAskedButKeepsOrdinaryAddedTokens) {
  const auto t = Make({.added_tokens = kChatTokens});
  EXPECT_THAT(t->Encode("<|end|><think>", {.parse_special = false}),
              ElementsAre('<', '|', 'e', 'n', 'd', '|', '>', 1001));
}

TEST(Tokenizer, RecognisesSpecialTokensOnlyOutsideOfPlainRanges) {
  const auto t = Make({.merges = {{"\u010A", "\u010A"}}, .added_tokens = kChatTokens});
  const auto encode = [&](std::string_view text, std::vector<ByteRange> plain) {
    return t->Encode(text, {.plain = plain});
  };
  const auto spelt = testing::ElementsAreArray({'<', '|', 'e', 'n', 'd', '|', '>'});
  EXPECT_THAT(encode("<|end|>", {{0, 7}}), spelt);
  EXPECT_THAT(encode("<|end|>", {{0, 2}, {2, 7}}), spelt);
  EXPECT_THAT(encode("<|end|>", {{3, 4}}), spelt);  // one that straddles an edge
  EXPECT_THAT(encode("<|end|>", {{0, 0}, {7, 7}}), ElementsAre(1000));
  EXPECT_THAT(encode("x<|end|>y", {{0, 1}, {8, 9}}), ElementsAre('x', 1000, 'y'));
  // A message must not swallow the control token beside it: here by its own '>'.
  EXPECT_THAT(encode("<|end|>>", {{7, 8}}), ElementsAre(1000, '>'));
  // Across an edge the text is one text: the two line breaks become one token.
  EXPECT_THAT(encode("a\n\nb", {{2, 4}}), ElementsAre('a', 256, 'b'));
}

TEST(Tokenizer, KeepsPlainRangesInPlaceThroughNormalisationAndRepair) {
  const std::string normalized = R"({"id":1000,"content":"[X]","special":true,"normalized":true})";
  const auto t = Make({.normalizer = R"({"type":"NFC"})", .added_tokens = normalized});
  const std::string text = "e\u0301[X]e\u0301\xFF[X]";  // 3, 3, 3, 1, 3 bytes
  const std::vector<ByteRange> first = {{0, 6}}, second = {{6, 13}}, both = {{3, 6}, {10, 13}};
  const std::vector<int32_t> e = {0xC3, 0xA9}, x = {1000}, spelt = {'[', 'X', ']'},
                             broken = {0xEF, 0xBF, 0xBD};
  const auto join = [](std::initializer_list<std::vector<int32_t>> parts) {
    std::vector<int32_t> all;
    for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
  };
  EXPECT_EQ(t->Encode(text), join({e, x, e, broken, x}));
  EXPECT_EQ(t->Encode(text, {.plain = first}), join({e, spelt, e, broken, x}));
  EXPECT_EQ(t->Encode(text, {.plain = second}), join({e, x, e, broken, spelt}));
  EXPECT_EQ(t->Encode(text, {.plain = both}), join({e, spelt, e, broken, spelt}));
}

TEST(Tokenizer, LetsNoMergeOrVocabularyEntryMakeASpecialTokenFromAMessage) {
  FileParts parts{.merges = {{"a", "b"}}, .added_tokens = Added(256, "ab", true)};
  parts.added_tokens = R"({"id":256,"content":"ab","special":true,"single_word":true})";
  for (const char* model : {"", R"(,"ignore_merges":true)"}) {
    parts.more_model = model;
    const auto t = Make(parts);
    EXPECT_THAT(t->Encode("ab"), ElementsAre(256));
    EXPECT_THAT(t->Encode("ab", {.parse_special = false}), ElementsAre('a', 'b'));
    EXPECT_THAT(t->Encode("xab", {.parse_special = false}), ElementsAre('x', 'a', 'b'));
  }
}

TEST(Tokenizer, AddsWhatTheTemplateSays) {
  const std::string post =
      R"({"type":"Sequence","processors":[{"type":"ByteLevel"},{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"</s>","type_id":0}}],"pair":[],"special_tokens":{"<s>":{"id":"<s>","ids":[1000],"tokens":["<s>"]},"</s>":{"id":"</s>","ids":[1001],"tokens":["</s>"]}}}]})";
  const auto t = Make({.post_processor = post,
                       .added_tokens = Added(1000, "<s>", true) + "," + Added(1001, "</s>", true)});
  EXPECT_THAT(t->Encode("a", {.add_special_tokens = true}), ElementsAre(1000, 'a', 1001));
  EXPECT_THAT(t->Encode("", {.add_special_tokens = true}), ElementsAre(1000, 1001));
  EXPECT_THAT(t->Encode("a"), ElementsAre('a'));
  EXPECT_EQ(t->Decode(std::vector<int32_t>{1000, 'a', 1001}, true), "a");
  EXPECT_EQ(t->Decode(std::vector<int32_t>{1000, 'a', 1001}, false), "<s>a</s>");
}

TEST(Tokenizer, PutsASpaceInFrontWhereByteLevelSaysSo) {
  const auto t = Make({.pre_tokenizer = R"({"type":"ByteLevel","add_prefix_space":true})",
                       .added_tokens = kChatTokens});
  EXPECT_THAT(t->Encode("a<|end|>b"), ElementsAre(' ', 'a', 1000, ' ', 'b'));
  EXPECT_THAT(t->Encode(" a"), ElementsAre(' ', 'a'));
  EXPECT_THAT(t->Encode(""), IsEmpty());
}

TEST(Tokenizer, SizesItsTablesByEntriesAndNotByTheLargestId) {
  const auto t = Make({.added_tokens = Added(2147483647, "<far>", true)});
  EXPECT_THAT(t->Encode("<far>"), ElementsAre(2147483647));
  EXPECT_EQ(t->id_end(), int64_t{1} << 31);
  EXPECT_EQ(t->token_count(), 257u);
  EXPECT_EQ(t->TokenText(2147483647), "<far>");
  EXPECT_TRUE(t->IsSpecial(2147483647));
  EXPECT_FALSE(t->Contains(2147483646));
  EXPECT_EQ(t->FindId("<far>"), 2147483647);
  EXPECT_EQ(t->FindId("<near>"), std::nullopt);
  EXPECT_EQ(t->TokenText(' '), "\u0120");
  EXPECT_EQ(t->TokenBytes(' '), " ");
  EXPECT_EQ(t->TokenBytes(-1), "");
}

TEST(Tokenizer, DropsOrReplacesBytesWithoutAToken) {
  std::string json = MakeJson({});
  json.replace(json.find("\"z\":122"), 7, "\"<unk>\":122");
  auto dropping = Tokenizer::FromJson(json);
  ASSERT_TRUE(dropping.ok());
  EXPECT_THAT((*dropping)->Encode("azzb"), ElementsAre('a', 'b'));
  json.replace(json.find("\"unk_token\":null"), 16, "\"unk_token\":\"<unk>\"");
  auto replacing = Tokenizer::FromJson(json);
  ASSERT_TRUE(replacing.ok());
  EXPECT_THAT((*replacing)->Encode("azzb"), ElementsAre('a', 122, 122, 'b'));
}

TEST(Tokenizer, RefusesEachLieAndNamesIt) {
  const FileParts good{.merges = {{"a", "b"}}};
  struct Lie {
    const char* lie;
    FileParts parts;
    const char* says;
  };
  const auto with = [&](auto change) {
    FileParts parts = good;
    change(parts);
    return parts;
  };
  const Lie kLies[] = {
      {"duplicate id", with([](auto& p) { p.more_vocab = R"(,"zz":97)"; }),
       "id 97 is given to two"},
      {"negative id", with([](auto& p) { p.more_vocab = R"(,"zz":-1)"; }), "has the id \"-1\""},
      {"id of 2^31", with([](auto& p) { p.more_vocab = R"(,"zz":2147483648)"; }), "2147483648"},
      {"fractional id", with([](auto& p) { p.more_vocab = R"(,"zz":1.5)"; }), "not an integer"},
      {"unknown merge", with([](auto& p) { p.more_merges = R"(,"a q")"; }),
       "model.merges[1] uses \"aq\""},
      {"half a merge", with([](auto& p) { p.more_merges = R"(,"ab")"; }), "not a pair"},
      {"empty added token", with([](auto& p) { p.added_tokens = Added(900, "", true); }),
       "added_tokens[0] has no content"},
      {"long added token",
       with([](auto& p) { p.added_tokens = Added(900, std::string(2000, 'x'), true); }),
       "2000 bytes"},
      {"added twice",
       with([](auto& p) { p.added_tokens = Added(900, "x", true) + "," + Added(901, "x", true); }),
       "repeats"},
      {"added under another id", with([](auto& p) { p.added_tokens = Added(900, "ab", true); }),
       "256 in model.vocab and 900"},
      {"added on a taken id", with([](auto& p) { p.added_tokens = Added(256, "<s>", true); }),
       "id 256 is given to two"},
      {"special byte", with([](auto& p) { p.added_tokens = Added(97, "a", true); }), "single byte"},
      {"hostile pattern", with([](auto& p) { p.pre_tokenizer = test::Split("(a+)+$"); }), "(a+)+$"},
      {"no byte level", with([](auto& p) { p.pre_tokenizer = R"({"type":"Whitespace"})"; }),
       "Whitespace"},
      {"no pre-tokenizer", with([](auto& p) { p.pre_tokenizer = "null"; }), "pre_tokenizer is"},
      {"expanding normalizer", with([](auto& p) { p.normalizer = R"({"type":"NFKD"})"; }), "NFKD"},
      {"other model", with([](auto& p) { p.more_model = R"(,"type":"Unigram")"; }), "Unigram"},
      {"dropout", with([](auto& p) { p.more_model = R"(,"dropout":0.1)"; }), "model.dropout"},
      {"prefix", with([](auto& p) { p.more_model = R"(,"continuing_subword_prefix":"##")"; }),
       "##"},
      {"other decoder", with([](auto& p) { p.decoder = R"({"type":"Metaspace"})"; }), "Metaspace"},
      {"other post-processor",
       with([](auto& p) { p.post_processor = R"({"type":"BertProcessing"})"; }), "BertProcessing"},
      {"unknown template token", with([](auto& p) {
         p.post_processor =
             R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}},{"Sequence":{"id":"A"}}],"special_tokens":{}})";
       }),
       "lacks \"<s>\""},
  };
  for (const Lie& lie : kLies) {
    const auto tokenizer = Tokenizer::FromJson(MakeJson(lie.parts));
    ASSERT_FALSE(tokenizer.ok()) << lie.lie;
    EXPECT_THAT(tokenizer.status().message(), HasSubstr(lie.says)) << lie.lie;
  }
  for (const char* text : {"", "[]", "{", "nonsense", "{\"model\":[]}", "\xFF", "{}"})
    EXPECT_FALSE(Tokenizer::FromJson(text).ok()) << text;
  EXPECT_FALSE(Tokenizer::FromJson(std::string(100'000, '[')).ok());
}

TEST(Tokenizer, RefusesTenMillionMergesBeforeItParsesThem) {
  std::string json = R"({"model":{"merges":[)";
  for (int i = 0; i < 10'000'000; ++i) json += "\"a b\",";
  const auto tokenizer = Tokenizer::FromJson(json);
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_EQ(tokenizer.status().code(), Code::kTooLarge);
  EXPECT_THAT(tokenizer.status().message(), HasSubstr("JSON values, at most"));
}

TEST(Tokenizer, EncodesOnManyThreadsAtOnce) {
  const auto t = Make({.merges = {{"a", "b"}, {"ab", "c"}}, .added_tokens = kChatTokens});
  const std::string text = "abc abd <|end|> the cab";
  const std::vector<int32_t> expected = t->Encode(text);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int thread = 0; thread < 4; ++thread)
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) wrong += t->Encode(text) != expected;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Nfc, ComposesAndOrdersMarks) {
  EXPECT_EQ(ToNfc("e\u0301"), "\u00E9");
  EXPECT_EQ(ToNfc("a\u0301\u0323b"), "\u1EA1\u0301b");
  EXPECT_EQ(ToNfc("\u1112\u1161\u11AB"), "\uD55C");  // Hangul
  EXPECT_EQ(ToNfc("\u212B \u2126"), "\u00C5 \u03A9");
  EXPECT_EQ(ToNfc("\u0958"), "\u0915\u093C");  // excluded from composition
  EXPECT_EQ(ToNfc("\u0301x"), "\u0301x");
  EXPECT_TRUE(IsPlainlyNfc("plain \u00E9 \u4F60 \U0001F642"));
  EXPECT_FALSE(IsPlainlyNfc("e\u0301"));
}

TEST(Nfc, TakesNoQuadraticTimeOnARunOfMarks) {
  std::string text = "a";
  for (int i = 0; i < 200'000; ++i) text += i % 2 ? "\u0301" : "\u0323";
  const std::string normalized = ToNfc(text);
  EXPECT_EQ(normalized.substr(0, 5), "\u1EA1\u0323");  // the marks below come first
}

}  // namespace
}  // namespace sluice
