// Which ids a request has seen and how often it has generated them: what penalties need.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace sluice {

class TokenHistory {
 public:
  struct Entry {
    int32_t id;
    int32_t generated;  // times; 0: in the prompt only
  };

  void AddPrompt(std::span<const int32_t> ids) {
    for (const int32_t id : ids) Find(id);
  }
  void AddGenerated(int32_t id) { ++Find(id).generated; }

  /// One entry an id, in the order of first appearance.
  std::span<const Entry> entries() const { return entries_; }

 private:
  Entry& Find(int32_t id) {
    const auto [at, is_new] = index_.try_emplace(id, static_cast<int32_t>(entries_.size()));
    if (is_new) entries_.push_back({id, 0});
    return entries_[at->second];
  }

  std::vector<Entry> entries_;
  std::unordered_map<int32_t, int32_t> index_;
};

}  // namespace sluice
