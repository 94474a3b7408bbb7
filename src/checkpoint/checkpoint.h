// A checkpoint directory: which tensors it holds and where their bytes are.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tensor/dtype.h"

namespace sluice {

struct TensorInfo {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  int file_idx;         // into Checkpoint::files()
  uint64_t begin, end;  // bytes [begin, end) of that file

  uint64_t bytes() const { return end - begin; }
};

/// Owns the mappings. Immutable and thread-safe once open.
///
/// The files are, in this order of preference:
///   1. model.safetensors.index.json and the shards it names;
///   2. model.safetensors;
///   3. every *.safetensors in the directory, if no tensor occurs twice and, where the names count
///      ("-00001-of-00003"), none is absent.
/// Each shard's header is compared with its size on disk before anything is mapped. The index is
/// compared with the headers both ways. A name has one place, but for pre-sharded checkpoints: in
/// the files "x-TP-000", "x-TP-001", ... of one x the same name means pieces of one tensor, in that
/// order. Along which axis, and whether they fit together, is for the weight table to say.
class Checkpoint {
 public:
  /// Errors: kNotFound (no such directory, no safetensors in it), kBadCheckpoint (damage,
  /// truncation, a dtype that we do not read, contradictions: the first 20, one a line).
  static Result<Checkpoint> Open(const std::string& directory);
  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

  const std::string& directory() const;

  /// Sorted by name; the pieces of one tensor one after another, in their order.
  std::span<const TensorInfo> tensors() const;
  /// Null if there is no tensor of this name; its first piece if there are several.
  const TensorInfo* Find(std::string_view name) const;
  /// Every piece of a tensor: empty if there is none of this name, one if it is whole.
  std::span<const TensorInfo> FindPieces(std::string_view name) const;

  /// The files that hold pieces of the same tensors as this one, itself included, in order; only
  /// itself if it holds whole tensors.
  std::span<const int> PieceFiles(int file_idx) const;

  /// Paths, in the order of TensorInfo::file_idx.
  const std::vector<std::string>& files() const;
  /// Sum of all tensors' bytes.
  uint64_t data_bytes() const;

  /// Calls `use` with the mapped bytes of a tensor, which may start at any address and must be read
  /// by the calling thread only. If the file shrank or could not be read, `use` sees zeros from
  /// there on and its outcome is replaced by kBadCheckpoint with path and offset; the checkpoint
  /// is then damaged, and every later call fails.
  Status WithBytes(const TensorInfo& tensor,
                   const std::function<Status(std::span<const std::byte>)>& use) const;

  /// OK if no file has changed (size or modification time) since Open.
  Status CheckUnchanged() const;

 private:
  struct State;
  explicit Checkpoint(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace sluice
