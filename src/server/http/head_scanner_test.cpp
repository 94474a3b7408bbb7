#include "server/http/head_scanner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice {
namespace {

using namespace std::string_literals;
using ::testing::HasSubstr;
using State = HeadScanner::State;

struct Outcome {
  State state;
  HttpRefusal refusal;
  HeadFrame frame;
};

Outcome ScanWhole(std::string_view bytes) {
  HeadScanner scanner;
  const State state = scanner.Advance(bytes);
  return {state, scanner.refusal(), scanner.frame()};
}

Outcome ScanByteByByte(std::string_view bytes) {
  HeadScanner scanner;
  State state = State::kNeedMore;
  for (size_t i = 1; i <= bytes.size() && state == State::kNeedMore; ++i)
    state = scanner.Advance(bytes.substr(0, i));
  return {state, scanner.refusal(), scanner.frame()};
}

std::string Head(std::string_view fields, std::string_view line = "POST /generate HTTP/1.1") {
  return std::string(line) + "\r\nHost: a\r\n" + std::string(fields) + "\r\n";
}

struct Lie {
  const char* name;
  std::string bytes;
  int status;
  const char* says;
};

std::string Repeat(const std::string& text, size_t count) {
  std::string all;
  for (size_t i = 0; i < count; ++i) all += text;
  return all;
}

const Lie kLies[] = {
    {"length and coding", Head("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400, "both"},
    {"length 0 and coding", Head("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"), 400,
     "both"},
    {"two lengths", Head("Content-Length: 5\r\nContent-Length: 6\r\n"), 400, "more than one"},
    {"two equal lengths", Head("Content-Length: 5\r\nContent-Length: 5\r\n"), 400, "more than one"},
    {"length list", Head("Content-Length: 5, 5\r\n"), 400, "Content-Length"},
    {"signed length", Head("Content-Length: +5\r\n"), 400, "Content-Length"},
    {"negative length", Head("Content-Length: -5\r\n"), 400, "Content-Length"},
    {"spaced length", Head("Content-Length: 5 0\r\n"), 400, "Content-Length"},
    {"hexadecimal length", Head("Content-Length: 0x5\r\n"), 400, "Content-Length"},
    {"empty length", Head("Content-Length:\r\n"), 400, "Content-Length"},
    {"endless length", Head("Content-Length: 99999999999999999999\r\n"), 400, "Content-Length"},
    {"gzip coding", Head("Transfer-Encoding: gzip\r\n"), 501, "only chunked"},
    {"misspelt coding", Head("Transfer-Encoding: xchunked\r\n"), 501, "only chunked"},
    {"coding list", Head("Transfer-Encoding: gzip, chunked\r\n"), 400, "only chunked"},
    {"chunked twice in one", Head("Transfer-Encoding: chunked, chunked\r\n"), 400, "only chunked"},
    {"chunked twice", Head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400,
     "more"},
    {"empty coding", Head("Transfer-Encoding:\r\n"), 400, "only chunked"},
    {"vertical tab coding", Head("Transfer-Encoding: \vchunked\r\n"), 400, "control byte 0x0b"},
    {"coding in 1.0", Head("Transfer-Encoding: chunked\r\n", "POST / HTTP/1.0"), 400, "HTTP/1.0"},
    {"bare LF", "GET / HTTP/1.1\nHost: a\n\n", 400, "LF without CR"},
    {"bare LF later", "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400, "LF without CR"},
    {"bare CR", "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400, "CR"},
    {"NUL", "GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n"s, 400, "control byte 0x00"},
    {"folding", Head("X: a\r\n b\r\n"), 400, "folded"},
    {"folding by tab", Head("X: a\r\n\tb\r\n"), 400, "folded"},
    {"space before colon", Head("Content-Length : 5\r\n"), 400, "header name"},
    {"no colon", Head("Nonsense\r\n"), 400, "no colon"},
    {"empty name", Head(": x\r\n"), 400, "header name"},
    {"name with bytes", Head("Cont\xE9nt: x\r\n"), 400, "header name"},
    {"no host", "GET / HTTP/1.1\r\n\r\n", 400, "Host header is missing"},
    {"two hosts", Head("Host: b\r\n"), 400, "more than one Host"},
    {"host with space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "bad Host"},
    {"other expectation", Head("Expect: 200-ok\r\n"), 417, "Expect"},
    {"no version", "GET /\r\nHost: a\r\n\r\n", 400, "request line"},
    {"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"},
    {"space in target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"},
    {"bytes in target", "GET /\xC3\xA9 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"},
    {"bad method", "GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "method"},
    {"lower case version", "GET / http/1.1\r\nHost: a\r\n\r\n", 400, "version"},
    {"HTTP/2", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "only HTTP/1.1"},
    {"HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505, "only HTTP/1.1"},
    {"long line", "GET /" + std::string(9000, 'a'), 414, "8192"},
    {"long field", "GET / HTTP/1.1\r\nX: " + std::string(40000, 'a'), 431, "32768"},
    {"many fields", Head(Repeat("X: y\r\n", 100)), 431, "100"},
    {"only empty lines", "\r\n\r\n\r\n", 400, "empty lines"},
};

TEST(HeadScanner, RefusesEachLieAndNamesIt) {
  for (const Lie& lie : kLies) {
    const Outcome outcome = ScanWhole(lie.bytes);
    EXPECT_EQ(outcome.state, State::kRefused) << lie.name;
    EXPECT_EQ(outcome.refusal.status, lie.status) << lie.name << ": " << outcome.refusal.message;
    EXPECT_THAT(outcome.refusal.message, HasSubstr(lie.says)) << lie.name;
  }
}

TEST(HeadScanner, GivesTheSameAnswerByteByByte) {
  for (const Lie& lie : kLies) {
    const Outcome whole = ScanWhole(lie.bytes), slow = ScanByteByByte(lie.bytes);
    EXPECT_EQ(whole.state, slow.state) << lie.name;
    EXPECT_EQ(whole.refusal.message, slow.refusal.message) << lie.name;
  }
}

TEST(HeadScanner, FindsTheFrame) {
  const std::string length = Head("Content-Length: 12\r\nExpect: 100-continue\r\n");
  Outcome outcome = ScanWhole(length + "rest");
  EXPECT_EQ(outcome.state, State::kDone);
  EXPECT_EQ(outcome.frame.end, length.size());
  EXPECT_EQ(outcome.frame.framing, BodyFraming::kLength);
  EXPECT_EQ(outcome.frame.content_length, 12u);
  EXPECT_TRUE(outcome.frame.expects_continue);

  outcome = ScanByteByByte(Head("transfer-encoding: Chunked\r\n"));
  EXPECT_EQ(outcome.frame.framing, BodyFraming::kChunked);
  outcome = ScanWhole(Head("Content-Length: 0\r\n"));
  EXPECT_EQ(outcome.frame.framing, BodyFraming::kNone);
  outcome = ScanWhole("GET / HTTP/1.0\r\n\r\n");
  EXPECT_EQ(outcome.state, State::kDone);
  EXPECT_EQ(outcome.frame.minor_version, 0);
}

TEST(HeadScanner, SkipsOneEmptyLineBeforeARequest) {
  const Outcome outcome = ScanWhole("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(outcome.state, State::kDone);
  EXPECT_EQ(outcome.frame.begin, 2u);
}

TEST(HeadScanner, TakesEachLimitExactly) {
  const std::string prefix = "GET /", suffix = " HTTP/1.1";
  const auto line = [&](size_t bytes) {
    return prefix + std::string(bytes - prefix.size() - suffix.size() - 1, 'a') + suffix +
           "\r\nHost: a\r\n\r\n";
  };
  EXPECT_EQ(ScanWhole(line(8192)).state, State::kDone);
  EXPECT_EQ(ScanWhole(line(8194)).refusal.status, 414);
  EXPECT_EQ(ScanWhole(Head(Repeat("X: y\r\n", 99))).state, State::kDone);
}

TEST(HeadScanner, KnowsWhatIsNotHttp) {
  EXPECT_EQ(ScanWhole("\x16\x03\x01\x02").state, State::kTls);
  EXPECT_EQ(ScanByteByByte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").state, State::kHttp2);
}

}  // namespace
}  // namespace sluice
