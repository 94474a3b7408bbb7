// Pieces as `tokenizers` 0.23.3 (oniguruma) cuts them; tests/oracle/tokenizer_oracle.py checks
// more.
#include "text/tokenizer/scanners.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace sluice {
namespace {

struct Golden {
  std::string_view text;
  std::string_view pieces;  // joined by |
};

std::string Pieces(Scanner scanner, std::string_view text) {
  std::string pieces;
  while (!text.empty()) {
    const size_t bytes = PieceBytes(scanner, text);
    pieces += pieces.empty() ? "" : "|";
    pieces += text.substr(0, bytes);
    text.remove_prefix(bytes);
  }
  return pieces;
}

TEST(Scanners, CutAsTheGpt2Pattern) {
  constexpr Golden kGoldens[] = {
      {"Hello world", "Hello| world"},
      {"don't DON'T we'LL I'\u017F x", "don|'t| DON|'|T| we|'|LL| I|'|\u017F| x"},
      {"a  b   c    ", "a| | b|  | c|    "},
      {"a \n\n b\r\n\t\tc \n", "a| \n\n| b|\r\n\t|\t|c| \n"},
      {"3.14159 2024 \u0663\u0664x", "3|.|14159| 2024| \u0663\u0664|x"},
      {"x=!!y ?? (z)\n\n", "x|=!!|y| ??| (|z|)|\n\n"},
      {"\u4F60\u597D, \u3053\u3093 9", "\u4F60\u597D|,| \u3053\u3093| 9"},
      {"caf\u00E9 e\u0301 \u00A0nb \u3000w", "caf\u00E9| e|\u0301| |\u00A0|nb| |\u3000|w"},
      {"'s 'll'd ''", "'s| '|ll|'d| ''"},
      {"\U0001F642\U0001F44D\U0001F3FD ok", "\U0001F642\U0001F44D\U0001F3FD| ok"},
      {"__init__(self,_x):\n    r", "__|init|__(|self|,_|x|):|\n   | r"},
  };
  for (const Golden& golden : kGoldens)
    EXPECT_EQ(Pieces(Scanner::kGpt2, golden.text), golden.pieces);
}

TEST(Scanners, CutAsTheQwenAndLingPatterns) {
  constexpr Golden kGoldens[] = {
      {"Hello world", "Hello| world"},
      {"don't DON'T we'LL I'\u017F x", "don|'t| DON|'T| we|'LL| I|'\u017F| x"},
      {"a  b   c    ", "a| | b|  | c|    "},
      {"a \n\n b\r\n\t\tc \n", "a| \n\n| b|\r\n|\t|\tc| \n"},
      {"3.14159 \u0663\u0664x", "3|.|1|4|1|5|9| |\u0663|\u0664|x"},
      {"x=!!y ?? (z)\n\n", "x|=!!|y| ??| (|z|)\n\n"},
      {"caf\u00E9 e\u0301 \u00A0nb \u3000w", "caf\u00E9| e|\u0301| |\u00A0nb| |\u3000w"},
      {"'s 'll'd ''", "'s| '|ll|'d| ''"},
      {"a\u2003b \u0085c", "a|\u2003b| |\u0085c"},
      {"\n", "\n"},
      {"   ", "   "},
      {"__init__(self,_x):\n    r 12", "__|init|__(|self|,_|x|):\n|   | r| |1|2"},
  };
  for (const Golden& golden : kGoldens)
    EXPECT_EQ(Pieces(Scanner::kLetters1, golden.text), golden.pieces);
}

TEST(Scanners, CutAsTheLlama3Pattern) {
  EXPECT_EQ(Pieces(Scanner::kLetters3, "3.14159 2024 \u0663\u0664x"),
            "3|.|141|59| |202|4| |\u0663\u0664|x");
}

TEST(Scanners, CutAsTheDeepSeekPatterns) {
  EXPECT_EQ(Pieces(Scanner::kDeepSeek, "I'\u017F we'LL e\u0301 \u00A0nb"),
            "I|'|\u017F| we|'LL| e\u0301| |\u00A0nb");
  EXPECT_EQ(Pieces(Scanner::kDigits3, "ab1234cd"), "ab|123|4|cd");
  EXPECT_EQ(Pieces(Scanner::kCjk, "ab\u4F60\u597Dcd"), "ab|\u4F60\u597D|cd");
}

TEST(Scanners, KnowPatternsByTheirExactTextOnly) {
  EXPECT_EQ(FindScanner(R"(\p{N}{1,3})"), Scanner::kDigits3);
  EXPECT_FALSE(FindScanner(R"(\p{N}{1,4})"));
  EXPECT_FALSE(FindScanner(""));
  EXPECT_FALSE(FindScanner("(a+)+$"));
}

TEST(Scanners, TakeLinearTimeOnLongRuns) {
  const auto begin = std::chrono::steady_clock::now();
  for (const std::string_view unit : {"a", " ", "\n", "\t ", "!", "'", "7", "\u00A0", "e\u0301"}) {
    std::string text;
    while (text.size() < 200'000) text += unit;
    for (const Scanner scanner : {Scanner::kGpt2, Scanner::kLetters1, Scanner::kLetters3,
                                  Scanner::kDigits3, Scanner::kCjk, Scanner::kDeepSeek}) {
      size_t covered = 0;
      while (covered < text.size())
        covered += PieceBytes(scanner, std::string_view(text).substr(covered));
      EXPECT_EQ(covered, text.size());
    }
  }
  // Quadratic scanning would take minutes.
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

}  // namespace
}  // namespace sluice
