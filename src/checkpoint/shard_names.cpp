#include "checkpoint/shard_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "base/status.h"
#include "checkpoint/shard_index.h"

namespace sluice {
namespace {

constexpr std::string_view kPieceMark = "-TP-";

std::optional<int> ParseNumber(std::string_view digits) {
  if (digits.empty() || digits.size() > 6) return {};
  int number = 0;
  for (char c : digits) {
    if (c < '0' || c > '9') return {};
    number = number * 10 + (c - '0');
  }
  return number;
}

// "model-00002-of-00007.safetensors": stem "model", number 2, count 7.
struct NumberedName {
  std::string_view stem;
  int number, count;
};
std::optional<NumberedName> ParseNumberedName(std::string_view name) {
  name.remove_suffix(kSafetensorsSuffix.size());
  const size_t of = name.rfind("-of-");
  if (of == name.npos || of == 0) return {};
  const size_t dash = name.rfind('-', of - 1);
  if (dash == name.npos) return {};
  const auto number = ParseNumber(name.substr(dash + 1, of - dash - 1));
  const auto count = ParseNumber(name.substr(of + 4));
  if (!number || !count) return {};
  return NumberedName{name.substr(0, dash), *number, *count};
}

}  // namespace

std::string_view WhyNoShardName(std::string_view name) {
  if (name.empty() || name.size() > 255) return "is no file name of 1 to 255 bytes";
  if (name.find('/') != name.npos || name.find('\0') != name.npos)
    return "leads out of the directory, allowed are plain file names";
  if (!name.ends_with(kSafetensorsSuffix)) return "does not end with .safetensors";
  return {};
}

std::optional<PieceName> ParsePieceName(std::string_view name) {
  if (!name.ends_with(kSafetensorsSuffix)) return {};
  name.remove_suffix(kSafetensorsSuffix.size());
  const size_t mark = name.rfind(kPieceMark);
  if (mark == name.npos) return {};
  const size_t digits = mark + kPieceMark.size();
  const auto number = ParseNumber(name.substr(digits));
  if (!number) return {};  // "-TP-common": whole tensors
  return PieceName{name.substr(0, digits), *number};
}

void SortShardNames(std::vector<std::string>* names) {
  const auto key = [](const std::string& name) {
    const auto piece = ParsePieceName(name);
    return piece ? std::make_tuple(piece->stem, piece->number, std::string_view(name))
                 : std::make_tuple(std::string_view(name), 0, std::string_view(name));
  };
  std::sort(names->begin(), names->end(),
            [&](const std::string& a, const std::string& b) { return key(a) < key(b); });
}

void CheckNumberedNames(const std::vector<std::string>& names,
                        const std::function<void(std::string)>& report) {
  std::set<std::pair<std::string_view, int>> sets;
  std::set<std::tuple<std::string_view, int, int>> present;
  std::map<std::string_view, std::map<int, std::string_view>> pieces;
  for (const std::string& name : names) {
    if (const auto numbered = ParseNumberedName(name)) {
      sets.emplace(numbered->stem, numbered->count);
      present.emplace(numbered->stem, numbered->count, numbered->number);
    }
    if (const auto piece = ParsePieceName(name)) {
      const auto [at, is_new] = pieces[piece->stem].emplace(piece->number, name);
      if (!is_new)
        report(fmt::format("{} and {} are the same piece", Quoted(at->second), Quoted(name)));
    }
  }
  for (const auto& [stem, count] : sets)
    for (int number = 1; number <= std::min<int>(count, kShardsMax); ++number)
      if (!present.contains({stem, count, number}))
        report(fmt::format("shard {} of {} of {} is absent", number, count, Quoted(stem)));
  for (const auto& [stem, files] : pieces) {
    const auto& [last, last_name] = *files.rbegin();
    int absent = 0;  // the first one speaks for all
    while (files.contains(absent)) ++absent;
    if (absent < last)
      report(fmt::format("piece {} of {} is absent, {} is there", absent, Quoted(stem),
                         Quoted(last_name)));
  }
}

}  // namespace sluice
