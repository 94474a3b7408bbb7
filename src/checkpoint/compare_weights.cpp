// A table against a checkpoint: everything that differs, before any data is read.
#include <algorithm>
#include <unordered_map>

#include "checkpoint/safetensors.h"
#include "checkpoint/weights.h"

namespace sluice {
namespace {

constexpr size_t kReportedMax = 20;

void AppendKind(const char* what, const std::vector<std::string>& names, std::string* text) {
  if (names.empty()) return;
  *text += fmt::format("\n{} {}:", names.size(), what);
  for (size_t i = 0; i < std::min(names.size(), kReportedMax); ++i) *text += "\n  " + names[i];
  if (names.size() > kReportedMax)
    *text += fmt::format("\n  and {} more", names.size() - kReportedMax);
}

// Whether `piece` has the row's shape but for the axis along which it was cut.
bool HasPieceShape(const WeightRow& row, const TensorInfo& piece) {
  if (piece.shape.size() != row.shape.size()) return false;
  for (size_t i = 0; i < row.shape.size(); ++i)
    if (i != static_cast<size_t>(row.piece_axis) && piece.shape[i] != row.shape[i]) return false;
  return true;
}

// At most one complaint a tensor; empty if the pieces make what the row wants.
std::string WhyNotWhole(const Checkpoint& checkpoint, const WeightRow& row,
                        std::span<const TensorInfo> pieces) {
  const auto path = [&](int file_idx) { return checkpoint.files()[file_idx]; };
  const TensorInfo& first = pieces[0];
  if (row.piece_axis < 0)
    return fmt::format("is in {} and in {}, this model has it whole", path(first.file_idx),
                       path(pieces[1].file_idx));
  const std::span<const int> files = checkpoint.PieceFiles(first.file_idx);
  for (const int file : files)
    if (std::none_of(pieces.begin(), pieces.end(),
                     [&](const TensorInfo& piece) { return piece.file_idx == file; }))
      return fmt::format("{} lacks its piece of {}", path(file), files.size());
  const TensorInfo* odd = nullptr;  // a piece that differs from the first: the likely culprit
  for (const TensorInfo& piece : pieces) {
    if (piece.dtype != first.dtype)
      return fmt::format("is {} in {}, but {} in {}", DTypeName(piece.dtype), path(piece.file_idx),
                         DTypeName(first.dtype), path(first.file_idx));
    if (!HasPieceShape(row, piece))
      return fmt::format("is {} in {}, expected are pieces of {} along axis {}",
                         FormatShape(piece.shape), path(piece.file_idx), FormatShape(row.shape),
                         row.piece_axis);
    if (!odd && piece.shape != first.shape) odd = &piece;
  }
  const TensorInfo whole = JoinPieces(row, pieces);
  if (whole.shape == row.shape) return {};
  if (pieces.size() == 1)
    return fmt::format("is {} in {}, expected is {}", FormatShape(first.shape),
                       path(first.file_idx), FormatShape(row.shape));
  return fmt::format(
      "{} pieces make {}, expected is {}: {} in {}{}", pieces.size(), FormatShape(whole.shape),
      FormatShape(row.shape), FormatShape(first.shape), path(first.file_idx),
      odd ? fmt::format(", but {} in {}", FormatShape(odd->shape), path(odd->file_idx)) : "");
}

// "[384, 1], [384] or [1]"
std::string ShapesOf(const WeightRow& row) {
  std::string text = FormatShape(row.shape);
  for (size_t i = 0; i < row.other_shapes.size(); ++i)
    text += (i + 1 < row.other_shapes.size() ? ", " : " or ") + FormatShape(row.other_shapes[i]);
  return text;
}

}  // namespace

TensorInfo JoinPieces(const WeightRow& row, std::span<const TensorInfo> pieces) {
  TensorInfo whole = pieces[0];
  if (pieces.size() == 1 || row.piece_axis < 0) return whole;
  for (const TensorInfo& piece : pieces)
    if (!HasPieceShape(row, piece) || piece.dtype != whole.dtype) return whole;
  const auto axis = static_cast<size_t>(row.piece_axis);
  uint64_t bytes = 0;
  whole.shape[axis] = 0;
  for (const TensorInfo& piece : pieces) {
    bytes += piece.bytes();
    whole.shape[axis] += piece.shape[axis];
  }
  whole.begin = 0;
  whole.end = bytes;
  return whole;
}

bool WeightRow::AcceptsShape(std::span<const int64_t> found) const {
  const auto is_found = [&](const std::vector<int64_t>& accepted) {
    return std::equal(accepted.begin(), accepted.end(), found.begin(), found.end());
  };
  return is_found(shape) || std::any_of(other_shapes.begin(), other_shapes.end(), is_found);
}

std::string DTypes::Names() const {
  std::string names;
  for (unsigned bit = 0; bit < 32; ++bit)
    if (bits_ >> bit & 1u)
      names += fmt::format("{}{}", names.empty() ? "" : ", ", DTypeName(static_cast<DType>(bit)));
  return names;
}

bool WeightReport::ok() const {
  return missing.empty() && surplus.empty() && misshapen.empty() && pieces.empty() &&
         mistyped.empty();
}

Status WeightReport::ToStatus(const std::string& path) const {
  if (ok()) return {};
  std::string text;
  AppendKind("missing", missing, &text);
  AppendKind("surplus", surplus, &text);
  AppendKind("of a wrong shape", misshapen, &text);
  AppendKind("in pieces that do not fit together", pieces, &text);
  AppendKind("of a dtype that is not accepted", mistyped, &text);
  return Error(Code::kBadCheckpoint, "{}: the tensors are not those of this model:{}", path, text);
}

WeightReport CompareWeights(const Checkpoint& checkpoint, std::span<const WeightRow> rows,
                            const IgnoreName& ignore) {
  std::unordered_map<std::string_view, size_t> row_of;
  for (size_t r = 0; r < rows.size(); ++r) {
    row_of.emplace(rows[r].name, r);
    for (const std::string& alias : rows[r].aliases) row_of.emplace(alias, r);
  }
  WeightReport report;
  std::vector<const TensorInfo*> found(rows.size());
  const std::span<const TensorInfo> all = checkpoint.tensors();
  for (size_t begin = 0, end; begin < all.size(); begin = end) {
    for (end = begin + 1; end < all.size() && all[end].name == all[begin].name;) ++end;
    const std::span<const TensorInfo> pieces = all.subspan(begin, end - begin);
    const TensorInfo& tensor = pieces[0];
    const auto at = row_of.find(tensor.name);
    if (at == row_of.end()) {
      if (!ignore || !ignore(tensor.name))
        report.surplus.push_back(
            fmt::format("{} {}", Quoted(tensor.name), FormatShape(tensor.shape)));
      continue;
    }
    const WeightRow& row = rows[at->second];
    const TensorInfo*& first = found[at->second];
    if (first) {
      report.surplus.push_back(fmt::format("{}, because {} is the same tensor", Quoted(tensor.name),
                                           Quoted(first->name)));
      continue;
    }
    first = &tensor;
    if (pieces.size() > 1 || row.piece_axis >= 0) {
      if (std::string why = WhyNotWhole(checkpoint, row, pieces); !why.empty())
        report.pieces.push_back(fmt::format("{}: {}", Quoted(tensor.name), why));
    } else if (!row.AcceptsShape(tensor.shape)) {
      report.misshapen.push_back(fmt::format("{} is {}, expected is {}", Quoted(tensor.name),
                                             FormatShape(tensor.shape), ShapesOf(row)));
    }
    if (!row.dtypes.Has(tensor.dtype))
      report.mistyped.push_back(fmt::format("{} is {}, accepted are {}", Quoted(tensor.name),
                                            DTypeName(tensor.dtype), row.dtypes.Names()));
  }
  for (size_t r = 0; r < rows.size(); ++r)
    if (rows[r].required && !found[r])
      report.missing.push_back(fmt::format("{} {}{}{}", rows[r].name, ShapesOf(rows[r]),
                                           rows[r].note.empty() ? "" : ", ", rows[r].note));
  return report;
}

Status CheckWeights(const Checkpoint& checkpoint, std::span<const WeightRow> rows,
                    const IgnoreName& ignore) {
  return CompareWeights(checkpoint, rows, ignore).ToStatus(checkpoint.directory());
}

}  // namespace sluice
