// The tokenizer behind a pipe, for tokenizer_oracle.py and tok_json_oracle.py.
//
//   tokenize_main TOKENIZER.json < requests > answers
//
// A request is "OP FLAG FLAG BYTES\n" and BYTES bytes; an answer is "BYTES\n" and BYTES bytes.
//   e ADD PARSE   text -> ids in decimal   (add_special_tokens, parse_special)
//   p 0 0         a line of plain ranges "BEGIN END BEGIN END ...", then text -> ids
//   d SKIP 0      ids -> text              (skip_special)
//   s SKIP 0      the same through the incremental detokenizer
#include <fmt/core.h>

#include <iostream>
#include <sstream>
#include <string>

#include "text/tokenizer/detokenizer.h"
#include "text/tokenizer/tokenizer.h"

namespace sluice {
namespace {

std::string Decimal(const std::vector<int32_t>& ids) {
  std::string text;
  for (const int32_t id : ids) text += fmt::format("{} ", id);
  return text;
}

std::string EncodeMarked(const Tokenizer& tokenizer, const std::string& payload) {
  const size_t line_end = payload.find('\n');
  std::istringstream numbers(payload.substr(0, line_end));
  std::vector<ByteRange> plain;
  for (ByteRange range; numbers >> range.begin >> range.end;) plain.push_back(range);
  return Decimal(
      tokenizer.Encode(std::string_view(payload).substr(line_end + 1), {.plain = plain}));
}

std::string Answer(const Tokenizer& tokenizer, char op, bool first, bool second,
                   const std::string& payload) {
  if (op == 'e')
    return Decimal(
        tokenizer.Encode(payload, {.parse_special = second, .add_special_tokens = first}));
  if (op == 'p') return EncodeMarked(tokenizer, payload);
  std::vector<int32_t> ids;
  std::istringstream numbers(payload);
  for (int32_t id; numbers >> id;) ids.push_back(id);
  if (op == 'd') return tokenizer.Decode(ids, first);
  Detokenizer detokenizer(tokenizer, first);
  std::string text;
  for (const int32_t id : ids) text += detokenizer.Push(id);
  return text + detokenizer.Flush();
}

int Run(const char* path) {
  auto tokenizer = Tokenizer::Load(path);
  if (!tokenizer.ok()) {
    fmt::print(stderr, "{}\n", tokenizer.status().message());
    return 1;
  }
  char op;
  bool first, second;
  size_t bytes;
  while (std::cin >> op >> first >> second >> bytes) {
    std::cin.get();  // the line's end
    std::string payload(bytes, '\0');
    if (!std::cin.read(payload.data(), static_cast<std::streamsize>(bytes))) return 1;
    const std::string answer = Answer(**tokenizer, op, first, second, payload);
    std::cout << answer.size() << '\n' << answer;
  }
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  if (argc != 2) {
    fmt::print(stderr, "usage: tokenize_main TOKENIZER.json < requests > answers\n");
    return 2;
  }
  return sluice::Run(argv[1]);
}
