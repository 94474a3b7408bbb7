#include "server/http/chunk_decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice {
namespace {

using namespace std::string_literals;
using State = ChunkDecoder::State;

struct Outcome {
  State state;
  std::string body;
  size_t left;
  HttpRefusal refusal;
};

Outcome Decode(std::string_view bytes, size_t step, ChunkLimits limits = {}) {
  ChunkDecoder decoder(limits);
  Outcome out{State::kNeedMore, "", 0, {}};
  size_t at = 0;
  while (at < bytes.size() && out.state == State::kNeedMore) {
    std::string_view part = bytes.substr(at, step);
    const size_t before = part.size();
    out.state = decoder.Advance(part, out.body);
    at += before - part.size();
  }
  out.left = bytes.size() - at;
  out.refusal = decoder.refusal();
  return out;
}

TEST(ChunkDecoder, JoinsChunksHoweverTheyArrive) {
  const std::string bytes =
      "5\r\nhello\r\nA;name=value\r\n, 10 bytes\r\n0\r\nTrailer: x\r\n\r\nGET /";
  for (const size_t step : {1, 2, 3, 7, 1000}) {
    const Outcome out = Decode(bytes, step);
    EXPECT_EQ(out.state, State::kDone) << step;
    EXPECT_EQ(out.body, "hello, 10 bytes") << step;
    EXPECT_EQ(out.left, 5u) << step;
  }
}

struct Lie {
  const char* name;
  std::string bytes;
  int status;
};

const Lie kLies[] = {
    {"sign", "+5\r\nhello\r\n0\r\n\r\n", 400},
    {"minus", "-1\r\n", 400},
    {"prefix", "0x5\r\nhello\r\n", 400},
    {"space", "5 \r\nhello\r\n", 400},
    {"leading space", " 5\r\nhello\r\n", 400},
    {"no digits", "\r\nhello", 400},
    {"over 2^63", "FFFFFFFFFFFFFFFFF\r\n", 400},
    {"2^64 wraps to 0", "10000000000000000\r\n", 400},
    {"bare LF after size", "5\nhello\r\n", 400},
    {"LF in extension", "5;a=b\nc\r\nhello\r\n", 400},
    {"NUL in extension", "5;a\0b\r\nhello\r\n"s, 400},
    {"long extension", "5;" + std::string(300, 'x') + "\r\nhello\r\n", 400},
    {"data longer than size", "5\r\nhello!\r\n0\r\n\r\n", 400},
    {"bare LF after data", "5\r\nhello\n0\r\n\r\n", 400},
    {"bare LF at the end", "0\r\n\n", 400},
    {"trailer without colon", "0\r\nfoo\r\n\r\n", 400},
    {"folded trailer", "0\r\n X: y\r\n\r\n", 400},
    {"trailer with bare LF", "0\r\nX: y\n\r\n", 400},
    {"body too large", "4000001\r\n", 413},
};

TEST(ChunkDecoder, RefusesEachLie) {
  for (const Lie& lie : kLies)
    for (const size_t step : {1, 1000}) {
      const Outcome out = Decode(lie.bytes, step);
      EXPECT_EQ(out.state, State::kRefused) << lie.name;
      EXPECT_EQ(out.refusal.status, lie.status) << lie.name << ": " << out.refusal.message;
    }
}

TEST(ChunkDecoder, CountsTrailers) {
  std::string bytes = "0\r\n";
  for (int i = 0; i < 32; ++i) bytes += "A: b\r\n";
  EXPECT_EQ(Decode(bytes + "\r\n", 1000).state, State::kDone);
  EXPECT_EQ(Decode(bytes + "A: b\r\n\r\n", 1000).refusal.status, 431);
  EXPECT_EQ(Decode("0\r\nA: " + std::string(9000, 'b'), 1000).refusal.status, 431);
}

TEST(ChunkDecoder, LimitsTheSumOfChunks) {
  const ChunkLimits limits{.body_bytes_max = 8};
  EXPECT_EQ(Decode("4\r\nabcd\r\n4\r\nefgh\r\n0\r\n\r\n", 1, limits).state, State::kDone);
  EXPECT_EQ(Decode("4\r\nabcd\r\n5\r\nefghi\r\n0\r\n\r\n", 1, limits).refusal.status, 413);
}

}  // namespace
}  // namespace sluice
