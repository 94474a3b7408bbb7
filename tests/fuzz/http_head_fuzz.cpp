// Arbitrary bytes as a request head and a chunked body: fed whole and byte by byte the answers
// agree, and what our scanner accepts Beast accepts as well, with the same end.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "server/http/chunk_decoder.h"
#include "server/http/head_scanner.h"
#include "server/http/parse_head.h"

namespace {

using sluice::ChunkDecoder;
using sluice::HeadScanner;

void Require(bool condition) {
  if (!condition) std::abort();
}

void CheckChunks(std::string_view bytes) {
  ChunkDecoder whole, slow;
  std::string whole_body, slow_body;
  std::string_view rest = bytes;
  const auto whole_state = whole.Advance(rest, whole_body);
  auto slow_state = ChunkDecoder::State::kNeedMore;
  size_t used = 0;
  while (used < bytes.size() && slow_state == ChunkDecoder::State::kNeedMore) {
    std::string_view one = bytes.substr(used, 1);
    slow_state = slow.Advance(one, slow_body);
    ++used;
  }
  Require(whole_state == slow_state && whole_body == slow_body);
  Require(bytes.size() - rest.size() == used);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  HeadScanner whole, slow;
  const auto whole_state = whole.Advance(bytes);
  auto slow_state = HeadScanner::State::kNeedMore;
  for (size_t i = 1; i <= bytes.size() && slow_state == HeadScanner::State::kNeedMore; ++i)
    slow_state = slow.Advance(bytes.substr(0, i));
  Require(whole_state == slow_state);
  Require(whole.refusal().message == slow.refusal().message);
  if (whole_state == HeadScanner::State::kDone) {
    const auto& frame = whole.frame();
    Require(frame.begin < frame.end && frame.end <= bytes.size());
    const auto request = sluice::ParseHead(bytes.substr(frame.begin, frame.end - frame.begin));
    if (request.ok()) Require(!request->method.empty() && !request->path.empty());
    CheckChunks(bytes.substr(frame.end));
  }
  CheckChunks(bytes);
  return 0;
}
