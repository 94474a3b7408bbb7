#include "text/tokenizer/stop_matcher.h"

namespace sluice {

Result<StopMatcher> StopMatcher::Create(std::span<const std::string> stops, bool keep_matched) {
  if (stops.size() > kStopsMax)
    return ParamError(Code::kInvalidArgument, "stop", "{} stop strings, at most {}", stops.size(),
                      kStopsMax);
  StopMatcher matcher;
  matcher.keep_matched_ = keep_matched;
  for (size_t i = 0; i < stops.size(); ++i) {
    if (stops[i].empty())
      return ParamError(Code::kInvalidArgument, "stop", "stop string {} is empty", i);
    if (stops[i].size() > kStopBytesMax)
      return ParamError(Code::kInvalidArgument, "stop", "stop string {} has {} bytes, at most {}",
                        i, stops[i].size(), kStopBytesMax);
    matcher.Insert(stops[i], static_cast<int>(i));
  }
  matcher.LinkFallbacks();
  return matcher;
}

void StopMatcher::Insert(std::string_view stop, int stop_idx) {
  uint32_t node = 0;
  for (const char c : stop) {
    const uint8_t byte = static_cast<uint8_t>(c);
    uint32_t child = Child(node, byte);
    if (child == 0) {
      child = static_cast<uint32_t>(nodes_.size());
      nodes_[node].children.emplace_back(byte, child);
      nodes_.emplace_back();
      nodes_[child].depth = nodes_[node].depth + 1;
    }
    node = child;
  }
  if (nodes_[node].stop >= 0) return;  // given twice: the first counts
  nodes_[node].stop = stop_idx;
  nodes_[node].stop_bytes = static_cast<uint32_t>(stop.size());
}

void StopMatcher::LinkFallbacks() {
  std::vector<uint32_t> order = {0};  // breadth first: fallbacks are shallower and done before
  for (size_t i = 0; i < order.size(); ++i) {
    const uint32_t node = order[i];
    for (const auto& [byte, child] : nodes_[node].children) {
      Node& c = nodes_[child];
      c.fallback = node == 0 ? 0 : Next(nodes_[node].fallback, byte);
      const Node& suffix = nodes_[c.fallback];
      if (c.stop < 0) {
        c.stop = suffix.stop;
        c.stop_bytes = suffix.stop_bytes;
      }
      order.push_back(child);
    }
  }
}

uint32_t StopMatcher::Child(uint32_t node, uint8_t byte) const {
  for (const auto& [label, child] : nodes_[node].children)
    if (label == byte) return child;
  return 0;
}

uint32_t StopMatcher::Next(uint32_t node, uint8_t byte) const {
  while (true) {
    if (const uint32_t child = Child(node, byte)) return child;
    if (node == 0) return 0;
    node = nodes_[node].fallback;
  }
}

StopOutput StopMatcher::Push(std::string_view piece) {
  StopOutput output;
  if (matched_ >= 0) {
    output.matched = matched_;
    return output;
  }
  for (size_t i = 0; i < piece.size(); ++i) {
    state_ = Next(state_, static_cast<uint8_t>(piece[i]));
    const Node& node = nodes_[state_];
    if (node.stop < 0) continue;
    matched_ = output.matched = node.stop;
    held_.append(piece.substr(0, i + 1));
    if (!keep_matched_) held_.resize(held_.size() - node.stop_bytes);
    output.text = std::move(held_);
    held_.clear();
    return output;
  }
  held_.append(piece);
  const size_t ready = held_.size() - nodes_[state_].depth;
  output.text = held_.substr(0, ready);
  held_.erase(0, ready);
  return output;
}

std::string StopMatcher::Flush() {
  state_ = 0;
  return std::exchange(held_, {});
}

}  // namespace sluice
