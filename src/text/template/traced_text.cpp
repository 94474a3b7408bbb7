#include "text/template/traced_text.h"

#include <algorithm>

namespace sluice::jinja {

TracedText TracedText::Trusted(std::string_view text) {
  TracedText traced{std::string(text), {}};
  if (!text.empty()) traced.trusted.push_back({0, text.size()});
  return traced;
}

TracedText TracedText::Untrusted(std::string_view text) { return {std::string(text), {}}; }

bool TextBuilder::Room(size_t bytes) {
  if (!status_.ok()) return false;
  status_ = budget_.TextBytes(text_.bytes.size() + bytes);
  return status_.ok();
}

void TextBuilder::Trust(size_t begin, size_t end) {
  if (begin == end) return;
  if (!text_.trusted.empty() && text_.trusted.back().end == begin) {
    text_.trusted.back().end = end;
  } else {
    text_.trusted.push_back({begin, end});
  }
}

void TextBuilder::Append(std::string_view bytes, bool trusted) {
  if (!Room(bytes.size())) return;
  const size_t begin = text_.bytes.size();
  text_.bytes.append(bytes);
  if (trusted) Trust(begin, text_.bytes.size());
}

void TextBuilder::Append(const TracedText& text, size_t begin, size_t end) {
  if (!Room(end - begin)) return;
  const size_t shift = text_.bytes.size();
  text_.bytes.append(text.bytes, begin, end - begin);
  auto range = std::partition_point(text.trusted.begin(), text.trusted.end(),
                                    [&](const ByteRange& r) { return r.end <= begin; });
  for (; range != text.trusted.end() && range->begin < end; ++range)
    Trust(shift + std::max(range->begin, begin) - begin, shift + std::min(range->end, end) - begin);
}

Result<TracedText> TextBuilder::FinishText() {
  RETURN_IF_ERROR(status_);
  RETURN_IF_ERROR(budget_.Work(text_.bytes.size()));
  return std::move(text_);
}

Result<TextPtr> TextBuilder::Finish() {
  TRY(TracedText text, FinishText());
  return TextPtr(std::make_shared<TracedText>(std::move(text)));
}

}  // namespace sluice::jinja
