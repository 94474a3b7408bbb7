#include "checkpoint/json_config.h"

#include <gmock/gmock.h>

#include <fstream>
#include <limits>

namespace sluice {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

JsonObject Config(std::string_view text) {
  auto object = JsonObject::Parse(text, "m/config.json");
  EXPECT_TRUE(object.ok()) << object.status().message();
  return object.ok() ? *object : JsonObject();
}

std::string Nested(int depth) {
  return "{\"a\":" + std::string(depth, '[') + std::string(depth, ']') + "}";
}

TEST(JsonObject, RefusesEachTextThatIsNoStrictObject) {
  const struct {
    std::string text, says;
  } kTexts[] = {
      {"", "m/config.json: not valid JSON at byte 0"},
      {"[1]", "an array of 1, expected is an object"},
      {"{\"a\":1} x", "after the JSON"},
      {"{\"a\":1,\"a\":2}", "duplicate key \"a\""},
      {"{\"b\":{\"a\":1,\"a\":1}}", "duplicate key \"a\""},
      {"{\"a\":1e400}", "a number over the range of a double"},
      {"{\"a\":-1e400}", "a number over the range of a double"},
      {"{\"a\":NaN}", "not valid JSON"},
      {"{\"a\":\"\xff\"}", "not valid JSON at byte 6"},
      {"{\"a\":\"\\ud800\"}", "not valid JSON"},
      {Nested(64), "not valid JSON"},
      {Nested(100'000), "not valid JSON"},
      {"{\"a\":1", "not valid JSON"},
  };
  for (const auto& [text, says] : kTexts) {
    const auto object = JsonObject::Parse(text, "m/config.json");
    EXPECT_THAT(object.status().message(), HasSubstr(says)) << text.substr(0, 80);
    EXPECT_EQ(object.status().code(), Code::kInvalidArgument) << text.substr(0, 80);
  }
  EXPECT_TRUE(JsonObject::Parse(Nested(63), "").ok());
  EXPECT_EQ(JsonObject::Parse(std::string(kJsonConfigBytesMax + 1, ' '), "").status().code(),
            Code::kTooLarge);
}

TEST(JsonObject, KeysOfDifferentObjectsMayRepeat) {
  const JsonObject config = Config(R"({"a":{"a":1,"b":[{"a":1},{"a":2}]},"b":2})");
  EXPECT_THAT(config.Keys(), ElementsAre("a", "b"));
}

TEST(JsonObject, TakesIntegersWrittenAsDoublesAndRefusesEverythingElseByName) {
  const JsonObject config = Config(
      R"({"ok":4096,"whole":4096.0,"half":4096.5,"text":"12","big":18446744073709551615,
          "huge":1e300,"minus":-1,"null":null,"flag":true,"list":[1]})");
  EXPECT_EQ(*config.Int("ok", 1, 4096), 4096);
  EXPECT_EQ(*config.Int("whole", 1, 4096), 4096);
  const struct {
    const char *key, *says;
    Code code;
  } kLies[] = {
      {"half", "m/config.json: half is 4096.5, allowed are integers from 1 to 9000",
       Code::kInvalidArgument},
      {"text", "text is \"12\"", Code::kInvalidArgument},
      {"big", "big is 18446744073709551615", Code::kInvalidArgument},
      {"huge", "huge is 1e+300", Code::kInvalidArgument},
      {"minus", "minus is -1", Code::kInvalidArgument},
      {"flag", "flag is true", Code::kInvalidArgument},
      {"list", "list is an array of 1", Code::kInvalidArgument},
      {"null", "null is missing, allowed are integers from 1", Code::kMissingParameter},
      {"absent", "absent is missing", Code::kMissingParameter},
  };
  for (const auto& lie : kLies) {
    const auto result = config.Int(lie.key, 1, 9000);
    EXPECT_THAT(result.status().message(), HasSubstr(lie.says));
    EXPECT_EQ(result.status().code(), lie.code) << lie.key;
    EXPECT_EQ(result.status().param(), lie.key);
  }
  EXPECT_FALSE(config.Int("ok", 4097, 9000).ok());
  EXPECT_FALSE(config.Int("ok", 1, 4095).ok());
  EXPECT_EQ(*config.Int("null", 1, 9000, 7), 7);
  EXPECT_FALSE(config.Int("minus", 1, 9000, 7).ok());  // a default excuses no wrong value
}

TEST(JsonObject, ReadsEveryOtherKind) {
  const JsonObject config = Config(
      R"({"d":0.5,"i":3,"b":false,"s":"silu","o":{"factor":2},"ids":[1,2],"id":7,
          "names":["A","B"],"mixed":[1,"x"],"ds":[0.5,1]})");
  EXPECT_EQ(*config.Double("d", 0, 1), 0.5);
  EXPECT_EQ(*config.Double("i", 0, 10), 3.0);
  EXPECT_THAT(config.Double("i", 0, 1).status().message(),
              HasSubstr("i is 3, allowed are numbers from 0 to 1"));
  EXPECT_EQ(*config.Bool("b", true), false);
  EXPECT_THAT(config.Bool("i").status().message(), HasSubstr("i is 3, allowed are true and false"));
  EXPECT_EQ(*config.String("s"), "silu");
  EXPECT_EQ(*config.String("t", "gelu"), "gelu");
  EXPECT_THAT(config.Object("o")->Int("factor", 3, 4).status().message(),
              HasSubstr("m/config.json: o: factor is 2"));
  EXPECT_FALSE(config.Object("s").ok());
  EXPECT_THAT(*config.Ints("ids", 0, 9), ElementsAre(1, 2));
  EXPECT_THAT(*config.Ints("id", 0, 9), ElementsAre(7));
  EXPECT_THAT(*config.Ints("absent", 0, 9), ElementsAre());
  EXPECT_THAT(*config.Strings("names"), ElementsAre("A", "B"));
  EXPECT_THAT(*config.Doubles("ds", 0, 1), ElementsAre(0.5, 1.0));
  EXPECT_FALSE(config.Ints("mixed", 0, 9).ok());
  EXPECT_FALSE(config.Strings("mixed").ok());
}

TEST(JsonObject, OverridesReplaceTopLevelKeysAndNullRemoves) {
  const JsonObject config = Config(R"({"a":1,"b":2,"c":3,"rope":{"x":1,"y":2}})")
                                .WithOverrides(Config(R"({"a":10,"b":null,"d":4,"rope":{"x":9}})"));
  EXPECT_EQ(*config.Int("a", 0, 99), 10);
  EXPECT_FALSE(config.Has("b"));
  EXPECT_EQ(*config.Int("c", 0, 99), 3);
  EXPECT_EQ(*config.Int("d", 0, 99), 4);
  EXPECT_FALSE(config.Object("rope")->Has("y"));
  EXPECT_THAT(config.Int("a", 0, 9).status().message(),
              HasSubstr("m/config.json: a (overridden) is 10"));
}

TEST(JsonObject, ReadModelConfigNamesTheFlagOfABrokenOverride) {
  const std::string path = testing::TempDir() + "json_config_test.json";
  std::ofstream(path) << R"({"a":1})";
  EXPECT_EQ(*ReadModelConfig(path, R"({"a":2})")->Int("a", 0, 9), 2);
  EXPECT_THAT(ReadModelConfig(path, "{").status().message(),
              HasSubstr("--json-model-override-args: not valid JSON"));
  EXPECT_EQ(ReadModelConfig(path + ".absent").status().code(), Code::kNotFound);
  std::remove(path.c_str());
}

TEST(FieldReader, ReportsEveryWrongFieldAtOnce) {
  FieldReader read(Config(R"({"a":0,"b":"x","c":3})"));
  EXPECT_EQ(read.Int("a", 1, 9), 1);
  EXPECT_EQ(read.Double("b", 0, 1, 0.5), 0.5);
  EXPECT_EQ(read.Int("c", 1, 9), 3);
  EXPECT_TRUE(read.Bool("absent", true));
  read.Contradiction("c", "allowed are divisors of 8");
  EXPECT_THAT(read.status().message(),
              AllOf(HasSubstr("a is 0"), HasSubstr("\nm/config.json: b is \"x\""),
                    HasSubstr("c is 3, allowed are divisors of 8")));
  EXPECT_EQ(read.status().param(), "a");
  for (int i = 0; i < 30; ++i) read.Add(Status(Code::kInvalidArgument, "more"));
  EXPECT_THAT(read.status().message(), HasSubstr("and 13 more"));
}

TEST(FieldReader, IsOkWhenEveryFieldIs) {
  FieldReader read(Config(R"({"a":1})"));
  read.Int("a", 1, 9);
  read.Add({});
  EXPECT_FALSE(read.Object("rope_scaling").Has("type"));
  EXPECT_TRUE(read.status().ok());
}

TEST(JsonConfig, NullIsAbsentButCanBeToldFromIt) {
  auto object = JsonObject::Parse(R"({"written": null, "set": 1})", "config.json");
  ASSERT_TRUE(object.ok());
  EXPECT_TRUE(object->IsNull("written") && !object->Has("written"));
  EXPECT_FALSE(object->IsNull("left_out") || object->Has("left_out"));
  EXPECT_FALSE(object->IsNull("set"));
}

}  // namespace
}  // namespace sluice
