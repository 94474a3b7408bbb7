#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <cstdlib>
#include <limits>

#include "server/json/json_reader.h"
#include "server/json/json_writer.h"
#include "server/json/utf8.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;

TEST(Utf8, FindsTheFirstBadByte) {
  EXPECT_EQ(FindInvalidUtf8("ascii \xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80"), std::nullopt);
  EXPECT_EQ(FindInvalidUtf8("ab\x80"), 2u);
  EXPECT_EQ(FindInvalidUtf8("\xC0\xAF"), 0u);          // overlong
  EXPECT_EQ(FindInvalidUtf8("\xE0\x80\xAF"), 0u);      // overlong
  EXPECT_EQ(FindInvalidUtf8("a\xED\xA0\x80"), 1u);     // a surrogate
  EXPECT_EQ(FindInvalidUtf8("\xF4\x90\x80\x80"), 0u);  // over U+10FFFF
  EXPECT_EQ(FindInvalidUtf8("a\xE2\x82"), 1u);         // cut off
  EXPECT_EQ(RepairUtf8("a\xE2\x82z"), "a\xEF\xBF\xBDz");
}

struct Lie {
  const char* name;
  std::string text;
  const char* says;
};

const Lie kLies[] = {
    {"empty", "", "empty"},
    {"only spaces", " \n", "empty"},
    {"BOM", "\xEF\xBB\xBF{}", "byte order mark"},
    {"not UTF-8", "{\"a\": \"\xFF\"}", "byte 7 is not UTF-8 (0xff)"},
    {"overlong", "\"\xC0\x80\"", "byte 1 is not UTF-8"},
    {"lone surrogate", R"({"a": "\ud800"})", "at byte"},
    {"low surrogate", R"({"a": "\udc00"})", "at byte"},
    {"two documents", "{} {}", "trailing bytes at byte 3"},
    {"trailing", "{}x", "trailing bytes at byte 2"},
    {"infinity", R"({"a": 1e400})", "too large"},
    {"minus infinity", R"([-1E999])", "too large"},
    {"NaN", R"({"a": NaN})", "at byte"},
    {"Infinity", R"({"a": Infinity})", "at byte"},
    {"long number", "[" + std::string(65, '1') + "]", "65 characters, allowed are 64"},
    {"deep", std::string(100000, '[') + std::string(100000, ']'), "deeper than 64"},
    {"65 deep", std::string(65, '[') + std::string(65, ']'), "deeper than 64"},
    {"cut off", "{\"a\": ", "at byte"},
    {"single quotes", "{'a': 1}", "at byte"},
    {"comment", "{} // x", "trailing"},
    {"comma", "[1,]", "at byte"},
    {"control byte", "\"a\nb\"", "at byte"},
};

TEST(JsonReader, RefusesEachLieAndSaysWhere) {
  for (const Lie& lie : kLies) {
    const auto value = ParseJson(lie.text);
    ASSERT_FALSE(value.ok()) << lie.name;
    EXPECT_EQ(value.status().code(), Code::kInvalidArgument) << lie.name;
    EXPECT_THAT(value.status().message(), HasSubstr(lie.says)) << lie.name;
  }
}

TEST(JsonReader, TakesWhatIsUnusualButRight) {
  EXPECT_TRUE(ParseJson(" {} \r\n").ok());
  EXPECT_TRUE(ParseJson(std::string(64, '[') + std::string(64, ']')).ok());
  EXPECT_TRUE(ParseJson("[" + std::string(64, '1') + "]").ok());
  EXPECT_TRUE(ParseJson("\"\\u0000 \\uFFFE \\ud83d\\ude00\"").ok());  // NUL, noncharacter, pair
  EXPECT_TRUE(ParseJson("[1e-400]").ok());
  const auto twice = ParseJson(R"({"a": 1, "a": 2})");
  EXPECT_EQ(twice->as_object().at("a").as_int64(), 2);  // the last one wins
}

TEST(JsonReader, RoundsDoublesToTheNearest) {
  // Numbers that Boost.JSON 1.81 reads one unit off, through a template's tojson into the prompt.
  for (const char* text :
       {"0.1", "5e-324", "2.2250738585072011e-308", "1.7976931348623157e308", "9007199254740993.0",
        "0.3e-10", "8.41e21", "9.5e-5", "123456789.123456789e-30"})
    EXPECT_EQ(ParseJson(text)->as_double(), std::strtod(text, nullptr)) << text;
}

TEST(JsonReader, LimitsTheNumberOfValues) {
  std::string text = "[0";
  for (int i = 0; i < 100; ++i) text += ",0";
  text += "]";
  EXPECT_TRUE(ParseJson(text, {.values_max = 102}).ok());
  EXPECT_THAT(ParseJson(text, {.values_max = 101}).status().message(), HasSubstr("more than 101"));
  EXPECT_TRUE(ParseJson(R"(["[[[[{{{{,,,,"])", {.values_max = 2}).ok());  // in a string: no values
}

TEST(FieldReader, NamesTheFieldTheValueAndTheRange) {
  const auto document = ParseJson(R"({"n": 1.5, "m": "12", "k": 3.0, "f": [1, -2], "z": null})");
  const FieldReader fields(document->as_object(), "p.");
  int64_t n = 7;
  Status status = fields.Int("n", n, 1, 8);
  EXPECT_EQ(status.param(), "p.n");
  EXPECT_EQ(status.message(), "p.n must be an integer in [1, 8], found 1.5");
  EXPECT_EQ(fields.Int("m", n, 1, 8).message(), "p.m must be an integer in [1, 8], found \"12\"");
  EXPECT_TRUE(fields.Int("k", n, 1, 8).ok());
  EXPECT_EQ(n, 3);
  EXPECT_TRUE(fields.Int("z", n, 1, 8).ok());  // null: as if absent
  EXPECT_EQ(n, 3);
  std::vector<int32_t> ids;
  EXPECT_EQ(fields.Ids("f", ids, 10).message(), "p.f must be an array of token ids, found -2");
}

TEST(JsonWriter, WritesValidJsonWhateverItIsGiven) {
  JsonWriter json;
  json.BeginObject().Key("a\"\n").String("\x01 \\ \xFF \xE2\x82").Key("list").BeginArray();
  json.Int(-1).Bool(true).Null().BeginObject().EndObject().EndArray().EndObject();
  EXPECT_EQ(json.text(),
            "{\"a\\\"\\n\":\"\\u0001 \\\\ \xEF\xBF\xBD \xEF\xBF\xBD\","
            "\"list\":[-1,true,null,{}]}");
}

TEST(JsonWriter, WritesNumbersShortAndFinite) {
  const auto text = [](auto number) { return JsonWriter().Number(number).text(); };
  EXPECT_EQ(text(0.7), "0.7");
  EXPECT_EQ(text(0.1f), "0.1");
  EXPECT_EQ(text(1.0), "1.0");
  EXPECT_EQ(text(1e-7), "1e-07");
  EXPECT_EQ(text(std::numeric_limits<float>::quiet_NaN()), "-3.4028235e+38");
  EXPECT_EQ(text(-std::numeric_limits<double>::infinity()), "-3.4028234663852886e+38");
  for (const double value : {0.7, 1e300, -1e-300, 123456.789, 3.0}) {
    const auto parsed = boost::json::parse(text(value));
    EXPECT_EQ(parsed.to_number<double>(), value);
  }
}

TEST(JsonWriter, RepeatsParsedValues) {
  const std::string text = R"({"a":[1,-2,0.5,"x",null,true],"b":{}})";
  EXPECT_EQ(JsonWriter().Value(boost::json::parse(text)).text(), text);
}

}  // namespace
}  // namespace sluice
