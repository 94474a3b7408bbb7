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

}  // namespace

std::string DTypes::Names() const {
  std::string names;
  for (unsigned bit = 0; bit < 32; ++bit)
    if (bits_ >> bit & 1u)
      names += fmt::format("{}{}", names.empty() ? "" : ", ", DTypeName(static_cast<DType>(bit)));
  return names;
}

bool WeightReport::ok() const {
  return missing.empty() && surplus.empty() && misshapen.empty() && mistyped.empty();
}

Status WeightReport::ToStatus(const std::string& path) const {
  if (ok()) return {};
  std::string text;
  AppendKind("missing", missing, &text);
  AppendKind("surplus", surplus, &text);
  AppendKind("of a wrong shape", misshapen, &text);
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
  for (const TensorInfo& tensor : checkpoint.tensors()) {
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
    if (tensor.shape != row.shape)
      report.misshapen.push_back(fmt::format("{} is {}, expected is {}", Quoted(tensor.name),
                                             FormatShape(tensor.shape), FormatShape(row.shape)));
    if (!row.dtypes.Has(tensor.dtype))
      report.mistyped.push_back(fmt::format("{} is {}, accepted are {}", Quoted(tensor.name),
                                            DTypeName(tensor.dtype), row.dtypes.Names()));
  }
  for (size_t r = 0; r < rows.size(); ++r)
    if (rows[r].required && !found[r])
      report.missing.push_back(fmt::format("{} {}", rows[r].name, FormatShape(rows[r].shape)));
  return report;
}

Status CheckWeights(const Checkpoint& checkpoint, std::span<const WeightRow> rows,
                    const IgnoreName& ignore) {
  return CompareWeights(checkpoint, rows, ignore).ToStatus(checkpoint.directory());
}

}  // namespace sluice
