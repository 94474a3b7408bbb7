#include "models/weight_places.h"

#include <cmath>

namespace sluice {
namespace {

int64_t Elements(const WeightRow& row) {
  int64_t count = 1;
  for (const int64_t dim : row.shape) count *= dim;
  return count;
}

// Random matrices keep the size of what they multiply: variance 1 / inputs.
DummyInit MatrixInit(int64_t inputs) {
  return DummyInit::Normal(1.0f / std::sqrt(static_cast<float>(inputs)));
}

// Hands a [outputs, inputs] tensor to `pack` as bfloat16 rows, or as floats, which pack rounds.
template <class Pack>
Status PackMatrix(const TensorData& data, Pack&& pack) {
  const int64_t outputs = data.shape[0], inputs = data.shape[1];
  if (data.dtype == DType::kBf16) {
    pack(View<const Bf16, 2>(data.As<Bf16>(), {outputs, inputs}));
    return {};
  }
  std::vector<float> floats(static_cast<size_t>(outputs * inputs));
  data.ToFloat(0, outputs * inputs, floats.data());
  pack(View<const float, 2>(floats.data(), {outputs, inputs}));
  return {};
}

}  // namespace

void WeightPlaces::Vector(std::string name, int64_t size, std::vector<float>* target) {
  bytes_ += static_cast<uint64_t>(size) * 4;
  rows_.push_back({.name = std::move(name),
                   .aliases = {},
                   .shape = {size},
                   .dummy = DummyInit::Ones(),
                   .place = [=](const TensorData& data) {
                     target->resize(static_cast<size_t>(size));
                     data.ToFloat(0, size, target->data());
                     return Status();
                   }});
}

void WeightPlaces::Bias(std::string name, int64_t size, bool required, std::vector<float>* target,
                        int64_t begin, int64_t total) {
  if (required) bytes_ += static_cast<uint64_t>(size) * 4;
  rows_.push_back({.name = std::move(name),
                   .aliases = {},
                   .shape = {size},
                   .required = required,
                   .dummy = DummyInit::Zeros(),
                   .place = [=](const TensorData& data) {
                     target->resize(static_cast<size_t>(total));
                     data.ToFloat(0, size, target->data() + begin);
                     return Status();
                   }});
}

void WeightPlaces::FloatMatrix(std::string name, int64_t rows, int64_t columns,
                               std::vector<float>* target) {
  bytes_ += static_cast<uint64_t>(rows * columns) * 4;
  rows_.push_back({.name = std::move(name),
                   .aliases = {},
                   .shape = {rows, columns},
                   .dummy = MatrixInit(columns),
                   .place = [=](const TensorData& data) {
                     target->resize(static_cast<size_t>(rows * columns));
                     data.ToFloat(0, rows * columns, target->data());
                     return Status();
                   }});
}

void WeightPlaces::Matrix(std::string name, int64_t outputs, int64_t inputs, PackedMatrix* target,
                          int64_t begin, int64_t total_outputs, std::vector<std::string> aliases) {
  bytes_ += static_cast<uint64_t>(outputs * inputs) * 2;
  if (begin == 0)
    before_.push_back([=]() -> Status {
      TRY(*target, PackedMatrix::Allocate(total_outputs, inputs));
      return {};
    });
  rows_.push_back({.name = std::move(name),
                   .aliases = std::move(aliases),
                   .shape = {outputs, inputs},
                   .dummy = MatrixInit(inputs),
                   .place = [=](const TensorData& data) {
                     return PackMatrix(data, [&](auto rows) { target->Pack(begin, rows); });
                   }});
}

void WeightPlaces::Expert(const std::string& prefix, const ExpertNames& names, int64_t hidden,
                          int64_t intermediate, ExpertWeights* target) {
  bytes_ += static_cast<uint64_t>(3 * hidden * intermediate) * 2;
  const auto row = [&](const std::string& name, int64_t outputs, int64_t inputs,
                       int cut_axis, std::function<Status(const TensorData&)> place) {
    rows_.push_back({.name = prefix + name,
                     .aliases = {},
                     .shape = {outputs, inputs},
                     .piece_axis = names.in_pieces ? cut_axis : -1,
                     .dummy = MatrixInit(inputs),
                     .place = std::move(place)});
  };
  row(names.gate, intermediate, hidden, 0, [=](const TensorData& data) {
    return PackMatrix(data, [&](auto rows) { target->PackGate(rows); });
  });
  row(names.up, intermediate, hidden, 0, [=](const TensorData& data) {
    return PackMatrix(data, [&](auto rows) { target->PackUp(rows); });
  });
  row(names.down, hidden, intermediate, 1, [=](const TensorData& data) {
    return PackMatrix(data, [&](auto rows) { target->PackDown(rows); });
  });
}

void WeightPlaces::LatentExpansion(std::string name, const MlaShape& shape, MlaWeights* target) {
  const int64_t outputs = shape.heads * (shape.nope + shape.value);
  bytes_ += static_cast<uint64_t>(outputs * shape.latent) * 2 * 2;  // both forms
  before_.push_back([=]() -> Status {
    TRY(*target, MlaWeights::Allocate(shape));
    return {};
  });
  rows_.push_back({.name = std::move(name),
                   .aliases = {},
                   .shape = {outputs, shape.latent},
                   .dummy = MatrixInit(shape.latent),
                   .place = [=](const TensorData& data) {
                     return PackMatrix(data, [&](auto rows) { target->Pack(rows); });
                   }});
}

Status WeightPlaces::Allocate() const {
  for (const auto& allocate : before_) RETURN_IF_ERROR(allocate());
  return {};
}

uint64_t WeightPlaces::parameters() const {
  uint64_t count = 0;
  for (const WeightRow& row : rows_)
    if (row.required) count += static_cast<uint64_t>(Elements(row));
  return count;
}

}  // namespace sluice
