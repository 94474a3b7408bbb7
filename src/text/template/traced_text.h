// Strings that know which of their bytes the template wrote.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/byte_range.h"
#include "text/template/budget.h"

namespace sluice::jinja {

/// UTF-8 bytes and the trusted ranges among them (sorted, disjoint, not adjacent, not empty).
struct TracedText {
  std::string bytes;
  std::vector<ByteRange> trusted;

  static TracedText Trusted(std::string_view text);
  static TracedText Untrusted(std::string_view text);
};
using TextPtr = std::shared_ptr<const TracedText>;

/// Builds a text piece by piece and keeps the origin of every byte. Growing beyond the budget's
/// text limit is remembered and reported by Finish; what comes after is dropped.
class TextBuilder {
 public:
  explicit TextBuilder(Budget& budget) : budget_(budget) {}

  void Append(std::string_view bytes, bool trusted);
  void Append(const TracedText& text) { Append(text, 0, text.bytes.size()); }
  /// Bytes [begin, end) of `text`.
  void Append(const TracedText& text, size_t begin, size_t end);

  size_t size() const { return text_.bytes.size(); }
  bool full() const { return !status_.ok(); }
  /// The text so far; pays for its bytes.
  Result<TextPtr> Finish();
  Result<TracedText> FinishText();

 private:
  bool Room(size_t bytes);
  void Trust(size_t begin, size_t end);

  Budget& budget_;
  Status status_;
  TracedText text_;
};

/// Walks a text from front to back and says whether the byte at an offset is trusted; offsets must
/// not fall.
class TrustCursor {
 public:
  explicit TrustCursor(const TracedText& text) : ranges_(text.trusted) {}
  bool At(size_t offset) {
    while (next_ < ranges_.size() && ranges_[next_].end <= offset) ++next_;
    return next_ < ranges_.size() && ranges_[next_].begin <= offset;
  }

 private:
  const std::vector<ByteRange>& ranges_;
  size_t next_ = 0;
};

}  // namespace sluice::jinja
