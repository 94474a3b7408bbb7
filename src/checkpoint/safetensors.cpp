#include "checkpoint/safetensors.h"

#include <algorithm>
#include <bit>
#include <boost/json/basic_parser_impl.hpp>
#include <cstring>
#include <new>
#include <tuple>
#include <utility>

#include "checkpoint/sax.h"

namespace sluice {
namespace {

constexpr size_t kNameBytesMax = 4096;
constexpr size_t kMetadataEntriesMax = 10'000;
constexpr int kHeaderDepthMax = 3;  // the header, a tensor, its shape

constexpr DType kDTypes[] = {DType::kBf16, DType::kF32, DType::kF16, DType::kF8E4M3,
                             DType::kF64,  DType::kI64, DType::kI32, DType::kI16,
                             DType::kI8,   DType::kU8,  DType::kBool};

// Collects the header's tensors as they are read. Depth 1 is the header, 2 a tensor or the
// metadata, 3 an array of numbers.
class HeaderHandler : public SaxBase {
 public:
  std::vector<TensorEntry> tensors;
  std::map<std::string, std::string> metadata;

  bool on_document_begin(error_code&) { return true; }
  bool on_document_end(error_code&) { return true; }

  bool on_object_begin(error_code& ec) {
    if (depth_ >= 2) return Unexpected(ec, "an object");
    ++depth_;
    seen_ = 0;
    entry_.shape.clear();
    return true;
  }

  bool on_object_end(size_t, error_code& ec) {
    --depth_;
    if (depth_ != 1) return true;
    if (std::exchange(in_metadata_, false)) return true;
    if (seen_ != (kDType | kShape | kOffsets))
      return Fail(ec, fmt::format("tensor {} lacks {}", Quoted(name_),
                                  !(seen_ & kDType)   ? "dtype"
                                  : !(seen_ & kShape) ? "shape"
                                                      : "data_offsets"));
    if (tensors.size() >= static_cast<size_t>(kSafetensorsTensorsMax))
      return Fail(ec, fmt::format("more than {} tensors", kSafetensorsTensorsMax));
    tensors.push_back(
        {std::move(name_), entry_.dtype, std::move(entry_.shape), entry_.begin, entry_.end});
    return true;
  }

  bool on_key_part(string_view s, size_t, error_code& ec) { return AppendText(s, ec); }
  bool on_key(string_view s, size_t, error_code& ec) {
    if (s.size() + text_.size() > kNameBytesMax) return AppendText(s, ec);
    std::string& key = depth_ == 1 ? name_ : field_;
    key.assign(text_).append(s);
    text_.clear();
    if (depth_ == 1) return BeginEntry(ec);
    return in_metadata_ || BeginField(ec);
  }

  bool on_string_part(string_view s, size_t, error_code& ec) {
    return in_metadata_ ? (text_.append(s), true) : AppendText(s, ec);
  }
  bool on_string(string_view s, size_t n, error_code& ec) {
    if (!on_string_part(s, n, ec)) return false;
    if (depth_ != 2 || (!in_metadata_ && field_ != "dtype")) return Unexpected(ec, "a string");
    const bool ok = in_metadata_ ? AddMetadata(ec) : SetDType(ec);
    text_.clear();
    return ok;
  }

  bool on_array_begin(error_code& ec) {
    if (depth_ != 2 || in_metadata_ || field_ == "dtype") return Unexpected(ec, "an array");
    ++depth_;
    numbers_ = 0;
    return true;
  }
  bool on_array_end(size_t n, error_code& ec) {
    --depth_;
    if (field_ == "data_offsets" && n != 2)
      return Fail(ec,
                  fmt::format("tensor {} has {} data_offsets, allowed are 2", Quoted(name_), n));
    return true;
  }

  bool on_number_part(string_view, error_code&) { return true; }
  bool on_int64(int64_t i, string_view, error_code& ec) {
    if (i < 0) return Unexpected(ec, fmt::format("{}", i));
    return AddNumber(static_cast<uint64_t>(i), ec);
  }
  bool on_uint64(uint64_t u, string_view, error_code& ec) { return AddNumber(u, ec); }
  bool on_double(double d, string_view, error_code& ec) {
    return Unexpected(ec, fmt::format("{}", d));
  }
  bool on_bool(bool b, error_code& ec) { return Unexpected(ec, b ? "true" : "false"); }
  bool on_null(error_code& ec) { return Unexpected(ec, "null"); }

 private:
  enum Field { kDType = 1, kShape = 2, kOffsets = 4 };

  // A value of a kind that has no place here.
  bool Unexpected(error_code& ec, std::string_view found) {
    if (depth_ <= 1)
      return Fail(ec, fmt::format("entry {} is {}, allowed are objects", Quoted(name_), found));
    if (in_metadata_)
      return Fail(ec,
                  fmt::format("__metadata__ {} is {}, allowed are strings", Quoted(field_), found));
    return Fail(ec,
                fmt::format("tensor {}: {} is or holds {}, allowed are {}", Quoted(name_), field_,
                            found, field_ == "dtype" ? "strings" : "arrays of whole numbers"));
  }

  bool AppendText(string_view s, error_code& ec) {
    text_.append(s);
    if (text_.size() > kNameBytesMax)
      return Fail(ec, fmt::format("name {} is longer than {} bytes", Quoted(text_), kNameBytesMax));
    return true;
  }

  bool BeginEntry(error_code& ec) {
    if (name_ == "__metadata__") {
      if (std::exchange(has_metadata_, true)) return Fail(ec, "__metadata__ occurs twice");
      in_metadata_ = true;
    } else if (name_.empty()) {
      return Fail(ec, "a tensor with an empty name");
    }
    field_.clear();
    return true;
  }

  bool BeginField(error_code& ec) {
    const int field = field_ == "dtype"          ? kDType
                      : field_ == "shape"        ? kShape
                      : field_ == "data_offsets" ? kOffsets
                                                 : 0;
    if (!field)
      return Fail(ec, fmt::format("tensor {} has a field {}, allowed are dtype, shape and "
                                  "data_offsets",
                                  Quoted(name_), Quoted(field_)));
    if (seen_ & field)
      return Fail(ec, fmt::format("tensor {} has two fields {}", Quoted(name_), field_));
    seen_ |= field;
    return true;
  }

  bool AddMetadata(error_code& ec) {
    if (metadata.size() >= kMetadataEntriesMax)
      return Fail(ec, fmt::format("more than {} metadata entries", kMetadataEntriesMax));
    if (!metadata.emplace(field_, text_).second)
      return Fail(ec, fmt::format("__metadata__ has two entries {}", Quoted(field_)));
    return true;
  }

  bool SetDType(error_code& ec) {
    for (DType dtype : kDTypes) {
      if (DTypeName(dtype) != text_) continue;
      entry_.dtype = dtype;
      return true;
    }
    std::string known;
    for (DType dtype : kDTypes)
      known += fmt::format("{}{}", known.empty() ? "" : ", ", DTypeName(dtype));
    return Fail(ec, fmt::format("tensor {} has dtype {}, supported are {}", Quoted(name_),
                                Quoted(text_), known));
  }

  bool AddNumber(uint64_t number, error_code& ec) {
    if (depth_ != 3) return Unexpected(ec, fmt::format("{}", number));
    if (field_ == "data_offsets") {
      (numbers_ == 0 ? entry_.begin : entry_.end) = number;
    } else {
      if (number > static_cast<uint64_t>(INT64_MAX))
        return Fail(ec, fmt::format("tensor {} has a dimension of {}, allowed are {}",
                                    Quoted(name_), number, INT64_MAX));
      if (numbers_ >= kSafetensorsRankMax)
        return Fail(ec, fmt::format("tensor {} has more than {} dimensions", Quoted(name_),
                                    kSafetensorsRankMax));
      entry_.shape.push_back(static_cast<int64_t>(number));
    }
    ++numbers_;
    return true;
  }

  int depth_ = 0;
  bool in_metadata_ = false, has_metadata_ = false;
  int seen_ = 0;      // fields of the open tensor
  int numbers_ = 0;   // of the open array
  std::string text_;  // a key or string that comes in parts
  std::string name_, field_;
  TensorEntry entry_ = {};
};

Result<SafetensorsHeader> ParseJson(std::string_view text, const std::string& path) {
  boost::json::parse_options options;
  options.max_depth = kHeaderDepthMax;
  boost::json::basic_parser<HeaderHandler> parser(options);
  RETURN_IF_ERROR(RunSax(parser, text, path + ": header", Code::kBadCheckpoint));
  SafetensorsHeader header;
  header.tensors = std::move(parser.handler().tensors);
  header.metadata = std::move(parser.handler().metadata);
  return header;
}

Status CheckNames(const std::vector<TensorEntry>& tensors, const std::string& path) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const TensorEntry& e : tensors) names.push_back(e.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end())
    return Error(Code::kBadCheckpoint, "{}: header: tensor {} occurs twice", path, Quoted(*twice));
  return {};
}

Status CheckSize(const TensorEntry& e, const std::string& path) {
  int64_t bytes = DTypeBytes(e.dtype);
  bool overflow = false;
  for (int64_t dim : e.shape) overflow |= __builtin_mul_overflow(bytes, dim, &bytes);
  for (int64_t dim : e.shape)
    if (dim == 0) overflow = false, bytes = 0;  // however large the other dimensions are
  if (overflow)
    return Error(Code::kBadCheckpoint, "{}: tensor {} of shape {} has more than 2^63 bytes", path,
                 Quoted(e.name), FormatShape(e.shape));
  if (e.end < e.begin || e.end - e.begin != static_cast<uint64_t>(bytes))
    return Error(Code::kBadCheckpoint,
                 "{}: tensor {} claims bytes [{}, {}), but {} {} needs {} bytes", path,
                 Quoted(e.name), e.begin, e.end, DTypeName(e.dtype), FormatShape(e.shape), bytes);
  return {};
}

// The tensors, sorted by begin, must tile the data section: no overlap, no hole, nothing past the
// end of a truncated file, nothing left over.
Status CheckTiling(const std::vector<TensorEntry>& tensors, uint64_t data_bytes,
                   const std::string& path) {
  for (const TensorEntry& e : tensors)  // first, since such a one leaves a hole where it belongs
    if (e.end > data_bytes) {
      uint64_t claimed = e.end;
      for (const TensorEntry& other : tensors) claimed = std::max(claimed, other.end);
      return Error(Code::kBadCheckpoint,
                   "{}: tensor {} claims bytes [{}, {}) of a data section of {}: {} bytes are "
                   "missing",
                   path, Quoted(e.name), e.begin, e.end, data_bytes, claimed - data_bytes);
    }
  uint64_t covered = 0;
  for (const TensorEntry& e : tensors) {
    if (e.begin != covered)
      return Error(Code::kBadCheckpoint, "{}: tensor {} claims bytes [{}, {}), {} byte {}", path,
                   Quoted(e.name), e.begin, e.end,
                   e.begin < covered ? "but its neighbour ends at" : "but nothing covers from",
                   covered);
    covered = e.end;
  }
  if (covered != data_bytes)
    return Error(Code::kBadCheckpoint,
                 "{}: the tensors end at byte {} of a data section of {}: {} bytes too many", path,
                 covered, data_bytes, data_bytes - covered);
  return {};
}

}  // namespace

std::string FormatShape(std::span<const int64_t> shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += fmt::format("{}{}", i ? ", " : "", shape[i]);
  return out + "]";
}

Result<uint64_t> SafetensorsPrefixBytes(std::span<const std::byte> first, uint64_t file_bytes,
                                        const std::string& path) {
  if (file_bytes < 8 || first.size() < 8)
    return Error(Code::kBadCheckpoint, "{}: {} bytes is no safetensors file, which has at least 8",
                 path, file_bytes);
  uint64_t header_bytes;
  static_assert(std::endian::native == std::endian::little);
  std::memcpy(&header_bytes, first.data(), 8);
  const uint64_t allowed = std::min(kSafetensorsHeaderBytesMax, file_bytes - 8);
  if (header_bytes < 2 || header_bytes > allowed)
    return Error(Code::kBadCheckpoint,
                 "{}: header of {} bytes in a file of {}, allowed are 2 to {}", path, header_bytes,
                 file_bytes, allowed);
  return 8 + header_bytes;
}

Result<SafetensorsHeader> ParseSafetensors(std::span<const std::byte> prefix, uint64_t file_bytes,
                                           const std::string& path) {
  TRY(const uint64_t data_begin, SafetensorsPrefixBytes(prefix, file_bytes, path));
  if (prefix.size() < data_begin)
    return Error(Code::kInternal, "{}: {} bytes given, the header ends at {}", path, prefix.size(),
                 data_begin);
  const std::string_view text(reinterpret_cast<const char*>(prefix.data()) + 8, data_begin - 8);
  if (text[0] != '{')
    return Error(Code::kBadCheckpoint, "{}: header starts with {}, allowed is \"{{\"", path,
                 Quoted(text.substr(0, 1)));
  try {
    TRY(SafetensorsHeader header, ParseJson(text, path));
    header.data_begin = data_begin;
    RETURN_IF_ERROR(CheckNames(header.tensors, path));
    for (const TensorEntry& e : header.tensors) RETURN_IF_ERROR(CheckSize(e, path));
    std::sort(header.tensors.begin(), header.tensors.end(),
              [](const TensorEntry& a, const TensorEntry& b) {
                return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
              });
    RETURN_IF_ERROR(CheckTiling(header.tensors, file_bytes - data_begin, path));
    return header;
  } catch (const std::bad_alloc&) {
    return Error(Code::kOutOfMemory, "{}: no memory for a header of {} bytes", path, text.size());
  }
}

}  // namespace sluice
