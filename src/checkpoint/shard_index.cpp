#include "checkpoint/shard_index.h"

#include <algorithm>
#include <boost/json/basic_parser_impl.hpp>
#include <new>
#include <unordered_map>
#include <utility>

#include "checkpoint/sax.h"

namespace sluice {
namespace {

constexpr size_t kTextBytesMax = 4096;
constexpr int kIndexDepthMax = 16;  // inside "metadata", which is not looked at

class IndexHandler : public SaxBase {
 public:
  ShardIndex index;
  bool has_map = false;

  bool on_document_begin(error_code&) { return true; }
  bool on_document_end(error_code&) { return true; }
  bool on_object_begin(error_code& ec) {
    if (in_map_ && depth_ == 2) return NoString(ec);
    ++depth_;
    return true;
  }
  bool on_object_end(size_t, error_code&) {
    if (--depth_ == 1) in_map_ = false;
    return true;
  }
  bool on_array_begin(error_code& ec) {
    if (depth_ == 0 || in_map_) return NoString(ec);
    ++depth_;
    return true;
  }
  bool on_array_end(size_t, error_code&) {
    --depth_;
    return true;
  }
  bool on_key_part(string_view s, size_t, error_code& ec) { return Append(s, ec); }
  bool on_key(string_view s, size_t, error_code& ec) {
    if (!Append(s, ec)) return false;
    key_ = std::exchange(text_, {});
    if (depth_ != 1 || key_ != "weight_map") return true;
    if (std::exchange(has_map, true)) return Fail(ec, "weight_map occurs twice");
    return in_map_ = true;
  }
  bool on_string_part(string_view s, size_t, error_code& ec) {
    return !in_map_ || Append(s, ec);  // metadata may hold any text
  }
  bool on_string(string_view s, size_t, error_code& ec) {
    if (!in_map_) return depth_ > 0 || NoString(ec);
    if (!Append(s, ec)) return false;
    if (depth_ != 2) return NoString(ec);
    return AddTensor(std::exchange(text_, {}), ec);
  }
  bool on_number_part(string_view, error_code&) { return true; }
  bool on_int64(int64_t, string_view, error_code& ec) { return Other(ec); }
  bool on_uint64(uint64_t, string_view, error_code& ec) { return Other(ec); }
  bool on_double(double, string_view, error_code& ec) { return Other(ec); }
  bool on_bool(bool, error_code& ec) { return Other(ec); }
  bool on_null(error_code& ec) { return Other(ec); }

 private:
  bool Other(error_code& ec) { return (!in_map_ && depth_ > 0) || NoString(ec); }

  bool NoString(error_code& ec) {
    if (depth_ == 0) return Fail(ec, "expected is an object");
    if (depth_ == 1) return Fail(ec, "weight_map is no object");
    return Fail(ec, fmt::format("weight_map: {} is no file name", Quoted(key_)));
  }

  bool Append(string_view s, error_code& ec) {
    text_.append(s);
    if (text_.size() > kTextBytesMax)
      return Fail(ec, fmt::format("{} is longer than {} bytes", Quoted(text_), kTextBytesMax));
    return true;
  }

  bool AddTensor(const std::string& file, error_code& ec) {
    const auto [at, is_new] = file_idx_.try_emplace(file, static_cast<int>(index.files.size()));
    if (is_new) index.files.push_back(file);
    if (index.files.size() > kShardsMax)
      return Fail(ec, fmt::format("more than {} files", kShardsMax));
    if (index.tensors.size() >= kCheckpointTensorsMax)
      return Fail(ec, fmt::format("more than {} tensors", kCheckpointTensorsMax));
    index.tensors.emplace_back(key_, at->second);
    return true;
  }

  int depth_ = 0;
  bool in_map_ = false;
  std::string text_, key_;
  std::unordered_map<std::string, int> file_idx_;
};

}  // namespace

Result<ShardIndex> ParseShardIndex(std::string_view text, const std::string& path) {
  try {
    boost::json::parse_options options;
    options.max_depth = kIndexDepthMax;
    boost::json::basic_parser<IndexHandler> parser(options);
    RETURN_IF_ERROR(RunSax(parser, text, path, Code::kBadCheckpoint));
    if (!parser.handler().has_map)
      return Error(Code::kBadCheckpoint, "{}: weight_map is missing", path);
    ShardIndex index = std::move(parser.handler().index);
    std::sort(index.tensors.begin(), index.tensors.end());
    for (size_t i = 1; i < index.tensors.size(); ++i)
      if (index.tensors[i].first == index.tensors[i - 1].first)
        return Error(Code::kBadCheckpoint, "{}: weight_map names tensor {} twice", path,
                     Quoted(index.tensors[i].first));
    return index;
  } catch (const std::bad_alloc&) {
    return Error(Code::kOutOfMemory, "{}: no memory for {} bytes of JSON", path, text.size());
  }
}

}  // namespace sluice
