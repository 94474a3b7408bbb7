#include "checkpoint/checkpoint.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>
#include <optional>

#include "base/bus_error.h"
#include "base/mapped_file.h"
#include "base/units.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/shard_index.h"
#include "checkpoint/shard_names.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr size_t kReportedDifferencesMax = 20;
constexpr std::string_view kIndexName = "model.safetensors.index.json";
constexpr std::string_view kSingleName = "model.safetensors";

// What is wrong with a checkpoint, for one report; counts on where the text stops.
class Differences {
 public:
  void Add(const std::string& text) {
    if (++count_ <= kReportedDifferencesMax) text_ += "\n  " + text;
  }
  bool empty() const { return count_ == 0; }
  Status ToStatus(const std::string& directory) const {
    if (count_ == 0) return {};
    std::string more;
    if (count_ > kReportedDifferencesMax)
      more = fmt::format("\n  and {} more", count_ - kReportedDifferencesMax);
    return Error(Code::kBadCheckpoint, "{}: {} {}:{}{}", directory, count_,
                 count_ == 1 ? "fault" : "faults", text_, more);
  }

 private:
  size_t count_ = 0;
  std::string text_;
};

Result<std::vector<std::string>> ListSafetensors(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.ends_with(kSafetensorsSuffix) && name[0] != '.') names.push_back(name);
    if (names.size() > kShardsMax)
      return Error(Code::kBadCheckpoint, "{}: more than {} *.safetensors files", directory,
                   kShardsMax);
  }
  if (error) return Error(Code::kNotFound, "{}: {}", directory, error.message());
  if (names.empty())
    return Error(Code::kNotFound, "{}: no {}, no {} and no other *.safetensors file", directory,
                 kIndexName, kSingleName);
  SortShardNames(&names);
  return names;
}

struct Shard {
  MappedFile file;
  SafetensorsHeader header;
};

// Opens a shard and compares its header with its size on disk; nothing is mapped yet.
Result<Shard> OpenShard(const std::string& path) {
  TRY(MappedFile file, MappedFile::OpenUnmapped(path));
  std::vector<std::byte> prefix(std::min<uint64_t>(8, file.size()));
  RETURN_IF_ERROR(file.ReadAt(0, prefix));
  TRY(const uint64_t prefix_bytes, SafetensorsPrefixBytes(prefix, file.size(), path));
  prefix.resize(prefix_bytes);
  RETURN_IF_ERROR(file.ReadAt(0, prefix));
  TRY(SafetensorsHeader header, ParseSafetensors(prefix, file.size(), path));
  return Shard{std::move(file), std::move(header)};
}

}  // namespace

struct Checkpoint::State {
  std::string directory;
  std::vector<MappedFile> mapped;
  std::vector<std::string> paths;
  std::vector<TensorInfo> tensors;            // sorted by name, then by file
  std::vector<std::vector<int>> piece_files;  // of each file: see PieceFiles
  uint64_t data_bytes = 0;
  mutable std::atomic<bool> damaged{false};

  Status AddShards(const std::vector<std::string>& names, Differences* differences);
  void GroupPieceFiles();
  void CheckNames(Differences* differences);
  void CompareWithIndex(const ShardIndex& index, Differences* differences) const;
};

// Opens every shard; what cannot be opened is reported with the rest.
Status Checkpoint::State::AddShards(const std::vector<std::string>& names,
                                    Differences* differences) {
  for (const std::string& name : names) {
    if (const std::string_view why = WhyNoShardName(name); !why.empty()) {
      differences->Add(fmt::format("shard {} {}", Quoted(name), why));
      continue;
    }
    Result<Shard> shard = OpenShard((fs::path(directory) / name).string());
    if (!shard.ok()) {
      if (shard.status().code() == Code::kOutOfMemory) return shard.status();
      differences->Add(shard.status().message());
      continue;
    }
    const int file_idx = static_cast<int>(mapped.size());
    for (TensorEntry& e : shard->header.tensors) {
      data_bytes += e.end - e.begin;
      tensors.push_back({std::move(e.name), e.dtype, std::move(e.shape), file_idx,
                         shard->header.data_begin + e.begin, shard->header.data_begin + e.end});
    }
    if (tensors.size() > kCheckpointTensorsMax)
      return Error(Code::kBadCheckpoint, "{}: more than {} tensors", directory,
                   kCheckpointTensorsMax);
    paths.push_back(shard->file.path());
    mapped.push_back(std::move(shard->file));
  }
  return {};
}

void Checkpoint::State::GroupPieceFiles() {
  std::map<std::string_view, std::vector<int>> files_of;  // by stem
  for (int file = 0; file < static_cast<int>(paths.size()); ++file)
    if (const auto piece = ParsePieceName(paths[file])) files_of[piece->stem].push_back(file);
  for (int file = 0; file < static_cast<int>(paths.size()); ++file) {
    const auto piece = ParsePieceName(paths[file]);
    piece_files.push_back(piece ? files_of[piece->stem] : std::vector<int>{file});
  }
}

// A name has one place, or one in each of several files that hold pieces.
void Checkpoint::State::CheckNames(Differences* differences) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.name, a.file_idx) < std::tie(b.name, b.file_idx);
  });
  for (size_t i = 1; i < tensors.size(); ++i)
    if (tensors[i].name == tensors[i - 1].name &&
        piece_files[tensors[i].file_idx] != piece_files[tensors[i - 1].file_idx])
      differences->Add(fmt::format("tensor {} is both in {} and in {}", Quoted(tensors[i].name),
                                   paths[tensors[i - 1].file_idx], paths[tensors[i].file_idx]));
}

// Both lists are sorted by name; the headers must hold exactly what the index says, where it says.
void Checkpoint::State::CompareWithIndex(const ShardIndex& index, Differences* differences) const {
  const auto path_of = [&](int file) { return (fs::path(directory) / index.files[file]).string(); };
  size_t i = 0, t = 0;
  while (i < index.tensors.size() || t < tensors.size()) {
    const int order = i == index.tensors.size() ? 1
                      : t == tensors.size()     ? -1
                                                : index.tensors[i].first.compare(tensors[t].name);
    if (order < 0) {
      differences->Add(fmt::format("tensor {} is in the index, but not in {}",
                                   Quoted(index.tensors[i].first),
                                   Quoted(index.files[index.tensors[i].second])));
      ++i;
    } else if (order > 0) {
      differences->Add(fmt::format("tensor {} is in {}, but not in the index",
                                   Quoted(tensors[t].name), paths[tensors[t].file_idx]));
      ++t;
    } else {
      if (path_of(index.tensors[i].second) != paths[tensors[t].file_idx])
        differences->Add(fmt::format("tensor {} is in {}, but the index says {}",
                                     Quoted(tensors[t].name), paths[tensors[t].file_idx],
                                     Quoted(index.files[index.tensors[i].second])));
      ++i;
      ++t;
    }
  }
}

Result<Checkpoint> Checkpoint::Open(const std::string& directory) {
  std::error_code error;
  if (!fs::is_directory(directory, error))
    return Error(Code::kNotFound, "{}: no such directory", directory);
  auto state = std::make_unique<State>();
  state->directory = directory;

  const std::string index_path = (fs::path(directory) / kIndexName).string();
  std::optional<ShardIndex> index;
  std::vector<std::string> names;
  Differences differences;
  if (fs::symlink_status(index_path, error).type() != fs::file_type::not_found) {
    TRY(const std::string text, ReadFile(index_path, kShardIndexBytesMax));
    TRY(index, ParseShardIndex(text, index_path));
    names = index->files;
  } else if (fs::symlink_status(fs::path(directory) / kSingleName, error).type() !=
             fs::file_type::not_found) {
    names = {std::string(kSingleName)};
  } else {
    TRY(names, ListSafetensors(directory));
    CheckNumberedNames(names, [&](const std::string& text) { differences.Add(text); });
  }

  RETURN_IF_ERROR(state->AddShards(names, &differences));
  // A shard that could not be opened would only be repeated as thousands of absent tensors.
  const bool all_open = state->mapped.size() == names.size();
  state->GroupPieceFiles();
  state->CheckNames(&differences);
  if (index && all_open) state->CompareWithIndex(*index, &differences);
  RETURN_IF_ERROR(differences.ToStatus(directory));
  for (MappedFile& file : state->mapped) RETURN_IF_ERROR(file.Map());
  return Checkpoint(std::move(state));
}

Checkpoint::Checkpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

const std::string& Checkpoint::directory() const { return state_->directory; }
std::span<const TensorInfo> Checkpoint::tensors() const { return state_->tensors; }
const std::vector<std::string>& Checkpoint::files() const { return state_->paths; }
uint64_t Checkpoint::data_bytes() const { return state_->data_bytes; }

const TensorInfo* Checkpoint::Find(std::string_view name) const {
  const std::span<const TensorInfo> pieces = FindPieces(name);
  return pieces.empty() ? nullptr : &pieces[0];
}

std::span<const TensorInfo> Checkpoint::FindPieces(std::string_view name) const {
  const auto& tensors = state_->tensors;
  const auto begin =
      std::lower_bound(tensors.begin(), tensors.end(), name,
                       [](const TensorInfo& t, std::string_view n) { return t.name < n; });
  auto end = begin;
  while (end != tensors.end() && end->name == name) ++end;
  return {begin, end};
}

std::span<const int> Checkpoint::PieceFiles(int file_idx) const {
  return state_->piece_files[file_idx];
}

Status Checkpoint::WithBytes(const TensorInfo& tensor,
                             const std::function<Status(std::span<const std::byte>)>& use) const {
  const MappedFile& file = state_->mapped[tensor.file_idx];
  if (state_->damaged.load(std::memory_order_acquire))
    return Error(Code::kBadCheckpoint, "{}: a file of this checkpoint could not be read before",
                 file.path());
  const std::span<const std::byte> bytes =
      file.bytes().subspan(tensor.begin, tensor.end - tensor.begin);
  const auto page = reinterpret_cast<uintptr_t>(bytes.data()) & ~uintptr_t{4095};
  madvise(reinterpret_cast<void*>(page),
          reinterpret_cast<uintptr_t>(bytes.data()) + bytes.size() - page,
          MADV_WILLNEED);  // a hint
  BusErrorScope scope(file.bytes());
  Status status = use(bytes);
  if (const auto offset = scope.failed_at()) {
    state_->damaged.store(true, std::memory_order_release);
    const uint64_t size = file.SizeOnDisk();
    return Error(Code::kBadCheckpoint, "{}: {} at offset {} while tensor {} was read", file.path(),
                 size < file.size() ? fmt::format("the file shrank from {} to {} bytes; no data",
                                                  file.size(), size)
                                    : std::string("read error"),
                 *offset, Quoted(tensor.name));
  }
  return status;
}

Status Checkpoint::CheckUnchanged() const {
  for (const MappedFile& file : state_->mapped) RETURN_IF_ERROR(file.CheckUnchanged());
  return {};
}

}  // namespace sluice
