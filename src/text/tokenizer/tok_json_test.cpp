// tokenizer.tok.json: the ids of `tiktoken`, and what is refused.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "base/mapped_file.h"
#include "text/tokenizer/tokenizer.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kFixture = SLUICE_SOURCE_DIR "/tests/golden/tok_json";

std::string Item(std::string_view bytes, int64_t id) {
  std::string list;
  for (const char byte : bytes)
    list += fmt::format("{}{}", list.empty() ? "" : ",", static_cast<uint8_t>(byte));
  return fmt::format(R"({{"bytes":[{}],"token":{}}})", list, id);
}

// Every byte has the token of its own number; `more` follow from 256, then the special tokens.
struct FileParts {
  std::vector<std::string> more = {};
  std::string more_regular = {};  // `,{...}`
  std::vector<std::string> special = {"<|eos|>"};
  std::string word_split = R"("V1")";
  std::string more_keys = {};  // `,"vocab_size":258`
};

std::string MakeJson(const FileParts& parts) {
  std::string regular, special;
  int id = 0;
  for (; id < 256; ++id)
    regular += (id ? "," : "") + Item(std::string(1, static_cast<char>(id)), id);
  for (const std::string& token : parts.more) regular += "," + Item(token, id++);
  for (const std::string& token : parts.special)
    special += (special.empty() ? "" : ",") + Item(token, id++);
  return fmt::format(R"({{"regular_tokens":[{}{}],"special_tokens":[{}],"word_split":{}{}}})",
                     regular, parts.more_regular, special, parts.word_split, parts.more_keys);
}

std::unique_ptr<Tokenizer> Make(const FileParts& parts) {
  auto tokenizer = Tokenizer::FromTokJson(MakeJson(parts));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

TEST(TokJson, GivesTheIdsOfTiktoken) {
  const auto tokenizer = Tokenizer::Load(std::string(kFixture) + "/tokenizer.tok.json");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  const auto text = ReadFile(std::string(kFixture) + "/expected.json", 1 << 20);
  const boost::json::value cases = boost::json::parse(*text);
  EXPECT_GT(cases.as_array().size(), 40u);
  for (const boost::json::value& c : cases.as_array()) {
    const auto prompt = boost::json::value_to<std::string>(c.at("text"));
    const auto ids = boost::json::value_to<std::vector<int32_t>>(c.at("ids"));
    EXPECT_EQ((*tokenizer)->Encode(prompt), ids) << prompt;
    EXPECT_EQ((*tokenizer)->Encode(prompt, {.parse_special = false}),
              boost::json::value_to<std::vector<int32_t>>(c.at("plain")))
        << prompt;
    EXPECT_EQ((*tokenizer)->Decode(ids, false), prompt);
  }
}

TEST(TokJson, MergesTheLowestIdWhateverItsParts) {
  // "abc" is reached from "ab"+"c" as from "a"+"bc"; "bc" has the lower id and goes first.
  EXPECT_THAT(Make({.more = {"bc", "ab", "abc"}})->Encode("xabcx"), ElementsAre('x', 258, 'x'));
  EXPECT_THAT(Make({.more = {"bc", "ab"}})->Encode("xabcx"), ElementsAre('x', 'a', 256, 'x'));
  // No merges lead to it, but a whole piece is a token all the same.
  const auto whole = Make({.more = {"wxyz"}});
  EXPECT_THAT(whole->Encode("wxyz"), ElementsAre(256));
  EXPECT_THAT(whole->Encode("wxyzw"), ElementsAre('w', 'x', 'y', 'z', 'w'));
}

TEST(TokJson, TakesSpecialTokensFromTheTextThatMayHoldThem) {
  const auto t = Make({.special = {"<|separator|>", "<|eos|>"}});
  EXPECT_THAT(t->Encode("a<|eos|>"), ElementsAre('a', 257));
  EXPECT_EQ(t->Encode("<|eos|>", {.parse_special = false}).size(), 7u);
  EXPECT_EQ(t->FindId("<|separator|>"), 256);
  EXPECT_TRUE(t->IsSpecial(257));
  EXPECT_EQ(t->Decode(std::vector<int32_t>{'a', 257}, true), "a");
  EXPECT_EQ(t->Decode(std::vector<int32_t>{'a', 257}, false), "a<|eos|>");
}

TEST(TokJson, RefusesEachLieAndNamesIt) {
  const std::string byte = Item("a", 97) + ",";
  std::string no_byte = MakeJson({});
  no_byte.erase(no_byte.find(byte), byte.size());
  const struct {
    std::string json, says;
  } kLies[] = {
      {"", "not JSON"},
      {"[]", "not a JSON object"},
      {"{}", "word_split is \"\"; supported: V1"},
      {MakeJson({.word_split = "\"V2\""}), "word_split is \"V2\"; supported: V1"},
      {MakeJson({.word_split = "7"}), "word_split is not a string"},
      {MakeJson({.more_keys = R"(,"pat_str":"\\w+")"}), "pat_str is \"\\\\w+\"; supported"},
      // Known from a tokenizer.json, but it leaves text between its matches.
      {MakeJson({.more_keys = R"(,"pat_str":"\\p{N}{1,3}")"}), "pat_str is"},
      {R"({"word_split":"V1"})", "regular_tokens is not an array"},
      {no_byte, "regular_tokens has no token for the byte 97"},
      {MakeJson({.more_regular = ",7"}), "regular_tokens[256] is not an object"},
      {MakeJson({.more_regular = R"(,{"bytes":[1,2]})"}), "regular_tokens[256] has no token"},
      {MakeJson({.more_regular = R"(,{"token":300})"}),
       "regular_tokens[256].bytes is not an array"},
      {MakeJson({.more_regular = R"(,{"bytes":[],"token":300})"}), "has no bytes"},
      {MakeJson({.more_regular = R"(,{"bytes":[1,256],"token":300})"}),
       "has \"256\", not an integer"},
      {MakeJson({.more_regular = R"(,{"bytes":[1,-1],"token":300})"}), "has \"-1\""},
      {MakeJson({.more_regular = R"(,{"bytes":"ab","token":300})"}), "bytes is not an array"},
      {MakeJson({.more_regular = R"(,{"bytes":[1,2],"token":-1})"}), "has the id \"-1\""},
      {MakeJson({.more_regular = R"(,{"bytes":[1,2],"token":2147483648})"}), "not an integer in 0"},
      {MakeJson({.more_regular = "," + Item("ab", 97)}), "id 97 is given to two tokens"},
      {MakeJson({.more_regular = "," + Item("a", 300)}), "token \"a\" has two ids, 97 and 300"},
      {MakeJson({.more_regular = "," + Item(std::string(1025, 'a'), 300)}),
       "1025 bytes, at most 1024"},
      {MakeJson({.special = {"\xFF"}}), "special_tokens: \"\\xff\" is not UTF-8"},
      {MakeJson({.special = {"a"}}), "token \"a\" has two ids"},
      {MakeJson({.more_keys = R"(,"vocab_size":256)"}),
       "vocab_size is \"256\", the file has 257 tokens"},
      {MakeJson({.more_keys = R"(,"vocab_size":"257")"}), "vocab_size is"},
  };
  for (const auto& [json, says] : kLies)
    EXPECT_THAT(Tokenizer::FromTokJson(json, "f.tok.json").status().message(),
                testing::AllOf(HasSubstr("f.tok.json: "), HasSubstr(says)));
  EXPECT_TRUE(Tokenizer::FromTokJson(MakeJson({.more_keys = R"(,"vocab_size":257)"})).ok());
  EXPECT_TRUE(Tokenizer::FromTokJson(MakeJson({.special = {}})).ok());
}

TEST(TokJson, LoadsLongTokensInReasonableTime) {
  // Every prefix of a run is a token: the most ways to cut that a file of this size can hold.
  FileParts parts;
  for (int length = 2; length <= 1024; ++length) parts.more.emplace_back(length, 'a');
  const auto tokenizer = Make(parts);
  EXPECT_THAT(tokenizer->Encode(std::string(1024, 'a')), ElementsAre(256 + 1022));
}

}  // namespace
}  // namespace sluice
