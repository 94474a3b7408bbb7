// Encoding speed in MB/s of one core, on English-like and on adversarial text.
//
//   tokenizer_bench [TOKENIZER.json] [BENCHMARK FLAGS]
//
// Without a file it makes its own: 30,000 merges learnt from the generated text, Qwen's pattern.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <unordered_map>
#include <utility>

#include "base/random.h"
#include "text/tokenizer/detokenizer.h"
#include "text/tokenizer/test_files.h"
#include "text/tokenizer/tokenizer.h"

namespace sluice {
namespace {

constexpr size_t kTextBytes = 1'000'000;
constexpr size_t kWords = 40'000;

// A word of rank r: letters by English frequency, longer for rarer words.
std::string Word(size_t rank) {
  constexpr std::string_view kLetters = "eeeeeetttttaaaaooooiiiinnnnssshhhrrrdddlllcuumwfgypbvk";
  SplitMix64 random(rank);
  std::string word;
  const size_t letters = 2 + static_cast<size_t>(std::log2(rank + 1.0) / 2) + random.Below(3);
  for (size_t i = 0; i < letters; ++i) word += kLetters[random.Below(kLetters.size())];
  return word;
}

// Words by Zipf's law, sentences of about 15 words, some numbers and line breaks.
std::string English(size_t bytes) {
  SplitMix64 random(7);
  std::string text;
  while (text.size() < bytes) {
    const size_t rank = static_cast<size_t>(std::exp(random.Uniform() * std::log(double{kWords})));
    std::string word = Word(rank);
    const uint64_t mark = random.Below(100);
    if (mark < 7) word[0] = static_cast<char>(word[0] - 0x20);
    text += random.Below(200) == 0 ? std::to_string(random.Below(3000)) : word;
    text += mark < 5 ? ", " : mark < 11 ? ". " : mark == 11 ? ".\n\n" : mark == 12 ? "'s " : " ";
  }
  return text;
}

std::string Repeat(std::string_view unit) {
  std::string text;
  while (text.size() < kTextBytes) text += unit;
  return text;
}

std::string RandomOf(std::string_view letters) {
  SplitMix64 random(11);
  std::string text;
  for (size_t i = 0; i < kTextBytes; ++i) text += letters[random.Below(letters.size())];
  return text;
}

// Learns merges from word counts: the most frequent pairs, many at a time.
std::vector<std::pair<std::string, std::string>> LearnMerges(size_t count) {
  std::vector<std::vector<std::string>> words;
  for (size_t rank = 0; rank < kWords; ++rank) {
    std::vector<std::string> symbols = {"\u0120"};
    for (const char c : Word(rank)) symbols.emplace_back(1, c);
    words.push_back(std::move(symbols));
  }
  std::vector<std::pair<std::string, std::string>> merges;
  while (merges.size() < count) {
    std::map<std::pair<std::string, std::string>, double> pairs;
    for (size_t rank = 0; rank < words.size(); ++rank)
      for (size_t i = 0; i + 1 < words[rank].size(); ++i)
        pairs[{words[rank][i], words[rank][i + 1]}] += 1.0 / static_cast<double>(rank + 1);
    if (pairs.empty()) break;
    std::vector<std::pair<double, std::pair<std::string, std::string>>> best;
    best.reserve(pairs.size());
    for (const auto& [pair, weight] : pairs) best.emplace_back(-weight, pair);
    std::sort(best.begin(), best.end());
    best.resize(std::min(best.size(), std::max<size_t>(20, merges.size() / 4)));
    std::map<std::pair<std::string, std::string>, bool> chosen;
    for (const auto& [weight, pair] : best) {
      merges.push_back(pair);
      chosen[pair] = true;
    }
    for (std::vector<std::string>& word : words)
      for (size_t i = 0; i + 1 < word.size(); ++i)
        if (chosen.count({word[i], word[i + 1]})) {
          word[i] += word[i + 1];
          word.erase(word.begin() + static_cast<ptrdiff_t>(i) + 1);
        }
  }
  // One text may be made by two pairs: the first one makes the token.
  std::vector<std::pair<std::string, std::string>> unique;
  std::unordered_map<std::string, bool> seen;
  for (const auto& merge : merges)
    if (!std::exchange(seen[merge.first + merge.second], true)) unique.push_back(merge);
  return unique;
}

void BenchEncode(benchmark::State& state, const Tokenizer& tokenizer, const std::string& text) {
  size_t ids = 0;
  for ([[maybe_unused]] auto _ : state) ids = tokenizer.Encode(text).size();
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * text.size()));
  state.counters["bytes/id"] = static_cast<double>(text.size()) / static_cast<double>(ids);
}

void BenchStream(benchmark::State& state, const Tokenizer& tokenizer, const std::string& text) {
  const std::vector<int32_t> ids = tokenizer.Encode(text);
  for ([[maybe_unused]] auto _ : state) {
    Detokenizer detokenizer(tokenizer, true);
    size_t bytes = 0;
    for (const int32_t id : ids) bytes += detokenizer.Push(id).size();
    benchmark::DoNotOptimize(bytes);
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * text.size()));
}

int Run(int argc, char** argv) {
  const bool has_file = argc > 1 && argv[1][0] != '-';
  auto loaded = has_file ? Tokenizer::Load(argv[1])
                         : Tokenizer::FromJson(test::MakeJson({.merges = LearnMerges(30'000)}));
  if (!loaded.ok()) {
    std::fprintf(stderr, "%s\n", loaded.status().message().c_str());
    return 1;
  }
  const Tokenizer& tokenizer = **loaded;
  std::printf("%zu tokens\n", tokenizer.token_count());
  const std::pair<const char*, std::string> kTexts[] = {
      {"english", English(kTextBytes)},
      {"one letter", Repeat("a")},
      {"letter run, English words joined",
       [] {
         std::string text = English(kTextBytes);
         std::erase_if(text, [](char c) { return c < 'a' || c > 'z'; });
         return text;
       }()},
      {"letter run, random", RandomOf("abcdefghijklmnopqrstuvwxyz")},
      {"letter run, ab", RandomOf("ab")},
      {"letter run, frequent", RandomOf("etaoinshr")},
      {"spaces", Repeat(" ")},
      {"line breaks", Repeat("\n")},
      {"digits", RandomOf("0123456789")},
      {"signs", RandomOf("!?.,;:-_/()[]{}<>|@#$%^&*+=~")},
      {"emoji", Repeat("\U0001F642\U0001F44D\U0001F3FD\U0001F468\u200D\U0001F469")},
      {"chinese", Repeat("\u4F60\u597D\u4E16\u754C\u6211\u4EEC\u7684")},
      {"marks", Repeat("e\u0301\u0323")},
  };
  for (const auto& [name, text] : kTexts)
    benchmark::RegisterBenchmark(name, [&tokenizer, &text = text](benchmark::State& state) {
      BenchEncode(state, tokenizer, text);
    });
  benchmark::RegisterBenchmark("detokenize english", [&](benchmark::State& state) {
    BenchStream(state, tokenizer, kTexts[0].second);
  });
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) { return sluice::Run(argc, argv); }
