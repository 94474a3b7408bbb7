#include "cli/eval_items.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

namespace sluice {
namespace {

EvalAnswer Answer(const std::string& content) {
  auto answer = ReadEvalAnswer(R"({"choices": [{"message": {"content": ")" + content + R"("}}]})");
  EXPECT_TRUE(answer.ok());
  return *answer;
}

TEST(Passes, JudgesEachKind) {
  const struct {
    const char *kind, *value, *content;
    bool passes;
  } cases[] = {
      {"exact", "\"42\"", " 42 ", true},
      {"exact", "\"42\"", "42.", false},
      {"contains", "\"blue\"", "It is blue.", true},
      {"contains", "\"blue\"", "It is red.", false},
      {"final_number", "\"142\"", "99 + 43 = 142.", true},
      {"final_number", "\"42\"", "99 + 43 = 142.", false},
      {"final_number", "\"1\"", "none", false},
      {"think_final_number", "\"7\"", "<think>\\n3 + 4\\n</think>\\n\\n7", true},
      {"think_final_number", "\"7\"", "7", false},
      {"json_tool_call", R"({"name": "f", "arguments": {"a": 1}})",
       R"(<tool_call>\n{\"arguments\": {\"a\": 1}, \"name\": \"f\"}\n</tool_call>)", true},
      {"json_tool_call", R"({"name": "f", "arguments": {"a": 1}})",
       R"(<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 2}}\n</tool_call>)", false},
      {"json_tool_call", R"({"name": "f", "arguments": {}})", "<tool_call>{</tool_call>", false},
      {"unheard_of", "\"x\"", "x", false},
  };
  for (const auto& c : cases)
    EXPECT_EQ(Passes({"id", "", c.kind, c.value}, Answer(c.content)), c.passes)
        << c.kind << " " << c.content;
}

TEST(ReadEvalAnswer, RefusesWhatIsNoCompletion) {
  EXPECT_FALSE(ReadEvalAnswer("{\"error\": {}}").ok());
  EXPECT_FALSE(ReadEvalAnswer("nonsense").ok());
}

TEST(ReadEvalSets, ExpandsContextsAndNamesABadLine) {
  const std::filesystem::path directory = testing::TempDir() + "eval_items_test";
  std::filesystem::create_directories(directory);
  std::ofstream(directory / "filler.json") << R"(["a.", "b.", "c."])";
  std::ofstream(directory / "recall.jsonl")
      << R"({"id": "r", "messages": [{"role": "user", "content": "{context} What?"}], )"
      << R"("context": {"start": 1, "stride": 2, "count": 3, "insert": [[1, "X."], [1, "Y."]]}, )"
      << R"("check": {"kind": "exact", "value": "X"}, "max_tokens": 5})"
      << "\n";
  const auto sets = ReadEvalSets(directory);
  ASSERT_TRUE(sets.ok()) << sets.status().message();
  EXPECT_THAT((*sets)[0].items[0].request, testing::HasSubstr("b. X. Y. a. c. What?"));
  std::ofstream(directory / "recall.jsonl", std::ios::app) << "{broken\n";
  EXPECT_THAT(ReadEvalSets(directory).status().message(), testing::HasSubstr("recall.jsonl:2"));
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace sluice
