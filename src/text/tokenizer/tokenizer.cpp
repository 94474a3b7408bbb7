#include "text/tokenizer/tokenizer.h"

#include <algorithm>

#include "base/mapped_file.h"
#include "text/tokenizer/nfc.h"
#include "text/tokenizer/pipeline.h"
#include "text/tokenizer/utf8.h"

namespace sluice {
namespace {

constexpr uint64_t kFileBytesMax = 128 << 20;  // the largest that we know of has 35 MB

using Ranges = std::vector<ByteRange>;

// The parts of `ranges` inside [begin, end), counted from begin.
Ranges Clip(std::span<const ByteRange> ranges, size_t begin, size_t end) {
  Ranges clipped;
  auto range = std::upper_bound(ranges.begin(), ranges.end(), begin,
                                [](size_t at, const ByteRange& r) { return at < r.end; });
  for (; range != ranges.end() && range->begin < end; ++range)
    clipped.push_back({std::max(range->begin, begin) - begin, std::min(range->end, end) - begin});
  return clipped;
}

// Where the ranges lie after normalisation. An edge inside an edited stretch takes in all of it.
Ranges MapThrough(const Ranges& ranges, const std::vector<NfcEdit>& edits) {
  Ranges mapped;
  size_t edit = 0;
  const auto map = [&](size_t at, bool to_begin) {
    while (edit < edits.size() && edits[edit].end <= at) ++edit;
    if (edit < edits.size() && edits[edit].begin < at)
      return to_begin ? edits[edit].out_begin : edits[edit].out_end;
    return edit == 0 ? at : edits[edit - 1].out_end + (at - edits[edit - 1].end);
  };
  for (const ByteRange& range : ranges) {
    size_t begin = map(range.begin, true);
    const size_t end = map(range.end, false);
    if (!mapped.empty()) begin = std::max(begin, mapped.back().end);
    if (begin < end) mapped.push_back({begin, end});
  }
  return mapped;
}

// `text` with broken UTF-8 replaced; the ranges follow.
std::string Repair(std::string_view text, std::span<const ByteRange> plain, Ranges* mapped) {
  std::string out;
  out.reserve(text.size() + 16);
  std::vector<NfcEdit> edits;
  for (size_t at = 0; at < text.size();) {
    const size_t valid = ValidPrefix(text.substr(at));
    out.append(text.substr(at, valid));
    at += valid;
    if (at == text.size()) break;
    const size_t bytes = FirstPart(text.substr(at)).bytes;
    edits.push_back({at, at + bytes, out.size(), out.size() + kReplacementCharacter.size()});
    out.append(kReplacementCharacter);
    at += bytes;
  }
  *mapped = MapThrough(Ranges(plain.begin(), plain.end()), edits);
  return out;
}

// One call of Encode.
class Encoding {
 public:
  Encoding(const Tokenizer::Impl& impl, BpeScratch* scratch, std::vector<int32_t>* ids, bool strict)
      : impl_(impl),
        scratch_(scratch),
        ids_(ids),
        strict_(strict && !impl.makeable_special.empty()) {}

  void AddText(std::string_view text, std::span<const ByteRange> plain) {
    for (const Span& span : impl_.raw_matcher.Split(text, plain)) {
      if (span.id != Span::kText) {
        ids_->push_back(span.id);
        continue;
      }
      const bool needs_ranges = impl_.normalized_matcher.has_special() && !plain.empty();
      AddUnnormalized(text.substr(span.begin, span.end - span.begin),
                      needs_ranges ? Clip(plain, span.begin, span.end) : Ranges());
    }
  }

 private:
  void AddUnnormalized(std::string_view text, Ranges plain) {
    if (!impl_.nfc || IsPlainlyNfc(text)) return AddNormalized(text, plain);
    std::vector<NfcEdit> edits;
    const std::string normalized = ToNfc(text, plain.empty() ? nullptr : &edits);
    if (!plain.empty()) plain = MapThrough(plain, edits);
    AddNormalized(normalized, plain);
  }

  void AddNormalized(std::string_view text, const Ranges& plain) {
    for (const Span& span : impl_.normalized_matcher.Split(text, plain)) {
      if (span.id != Span::kText) {
        ids_->push_back(span.id);
      } else {
        AddPiece(text.substr(span.begin, span.end - span.begin), 0);
      }
    }
  }

  // Runs the steps of the pre-tokenizer from `step_idx` on; they are at most kStepsMax deep.
  void AddPiece(std::string_view piece, size_t step_idx) {
    if (step_idx == impl_.steps.size()) return AddWord(piece);
    const PreTokenStep& step = impl_.steps[step_idx];
    std::string prefixed;
    if (step.prefix_space && piece.front() != ' ') {
      prefixed.reserve(piece.size() + 1);
      prefixed.append(" ").append(piece);
      piece = prefixed;
    }
    if (!step.scanner) return AddPiece(piece, step_idx + 1);
    while (!piece.empty()) {
      const size_t bytes = PieceBytes(*step.scanner, piece);
      AddPiece(piece.substr(0, bytes), step_idx + 1);
      piece.remove_prefix(bytes);
    }
  }

  void AddWord(std::string_view word) {
    const size_t begin = ids_->size();
    impl_.bpe.Encode(word, impl_.vocabulary, scratch_, ids_);
    if (strict_) BreakUpSpecial(begin);
  }

  // Text from outside must not make a control token, not even by merges.
  void BreakUpSpecial(size_t begin) {
    const auto parts = [&](int32_t id) {
      return std::find_if(impl_.makeable_special.begin(), impl_.makeable_special.end(),
                          [&](const auto& special) { return special.first == id; });
    };
    const std::vector<int32_t> made(ids_->begin() + static_cast<ptrdiff_t>(begin), ids_->end());
    ids_->resize(begin);
    for (const int32_t id : made) {
      const auto special = parts(id);
      if (special == impl_.makeable_special.end()) {
        ids_->push_back(id);
      } else {
        ids_->insert(ids_->end(), special->second.begin(), special->second.end());
      }
    }
  }

  const Tokenizer::Impl& impl_;
  BpeScratch* scratch_;
  std::vector<int32_t>* ids_;
  bool strict_;
};

std::unique_ptr<BpeScratch> TakeScratch(const Tokenizer::Impl& impl) {
  {
    const std::lock_guard lock(impl.mutex);
    if (!impl.idle_scratch.empty()) {
      std::unique_ptr<BpeScratch> scratch = std::move(impl.idle_scratch.back());
      impl.idle_scratch.pop_back();
      return scratch;
    }
  }
  return std::make_unique<BpeScratch>();
}

void GiveBackScratch(const Tokenizer::Impl& impl, std::unique_ptr<BpeScratch> scratch) {
  constexpr size_t kKeptMax = 1 << 16;  // entries; what a very long piece needed is freed
  const auto trim = [](auto& buffer) {
    if (buffer.capacity() > kKeptMax) buffer = {};
  };
  trim(scratch->start_ids);
  trim(scratch->symbols);
  trim(scratch->tokens);
  trim(scratch->heap);
  const std::lock_guard lock(impl.mutex);
  if (impl.idle_scratch.size() < Tokenizer::Impl::kIdleScratchMax)
    impl.idle_scratch.push_back(std::move(scratch));
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

Result<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& path) {
  TRY(const std::string json, ReadFile(path, kFileBytesMax));
  return path.ends_with(".tok.json") ? FromTokJson(json, path) : FromJson(json, path);
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::FromTokJson(std::string_view json,
                                                          std::string_view name) {
  auto impl = std::make_unique<Impl>();
  const Status status = ReadTokJson(json, impl.get());
  if (!status.ok()) return Error(status.code(), "{}: {}", name, status.message());
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(std::string_view json,
                                                       std::string_view name) {
  auto impl = std::make_unique<Impl>();
  const Status status = ReadTokenizerJson(json, impl.get());
  if (!status.ok()) return Error(status.code(), "{}: {}", name, status.message());
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

std::vector<int32_t> Tokenizer::Encode(std::string_view text, const EncodeOptions& options) const {
  std::vector<int32_t> ids;
  if (options.add_special_tokens) ids = impl_->before;
  const ByteRange everything{0, text.size()};
  std::span<const ByteRange> plain = options.plain;
  if (!options.parse_special) plain = std::span(&everything, 1);
  std::string repaired;
  Ranges repaired_plain;
  if (ValidPrefix(text) != text.size()) {
    repaired = Repair(text, plain, &repaired_plain);
    text = repaired;
    plain = repaired_plain;
  }
  std::unique_ptr<BpeScratch> scratch = TakeScratch(*impl_);
  Encoding(*impl_, scratch.get(), &ids, !plain.empty()).AddText(text, plain);
  GiveBackScratch(*impl_, std::move(scratch));
  if (options.add_special_tokens) ids.insert(ids.end(), impl_->after.begin(), impl_->after.end());
  return ids;
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string bytes;
  for (const int32_t id : ids) {
    const TokenEntry* entry = impl_->vocabulary.FindId(id);
    if (entry == nullptr || (skip_special && entry->special)) continue;
    bytes.append(impl_->vocabulary.BytesOf(*entry));
  }
  if (ValidPrefix(bytes) == bytes.size()) return bytes;
  std::string text;
  AppendRepaired(bytes, false, &text);
  return text;
}

std::string_view Tokenizer::TokenBytes(int32_t id) const {
  const TokenEntry* entry = impl_->vocabulary.FindId(id);
  return entry == nullptr ? std::string_view() : impl_->vocabulary.BytesOf(*entry);
}

std::string_view Tokenizer::TokenText(int32_t id) const {
  const TokenEntry* entry = impl_->vocabulary.FindId(id);
  return entry == nullptr ? std::string_view() : impl_->vocabulary.TextOf(*entry);
}

std::optional<int32_t> Tokenizer::FindId(std::string_view token_text) const {
  const TokenEntry* entry = impl_->vocabulary.FindText(token_text);
  if (entry == nullptr) return std::nullopt;
  return entry->id;
}

bool Tokenizer::Contains(int32_t id) const { return impl_->vocabulary.FindId(id) != nullptr; }

bool Tokenizer::IsSpecial(int32_t id) const {
  const TokenEntry* entry = impl_->vocabulary.FindId(id);
  return entry != nullptr && entry->special;
}

size_t Tokenizer::token_count() const { return impl_->vocabulary.entries().size(); }

int64_t Tokenizer::id_end() const {
  const std::vector<TokenEntry>& entries = impl_->vocabulary.entries();
  return entries.empty() ? 0 : int64_t{entries.back().id} + 1;
}

}  // namespace sluice
