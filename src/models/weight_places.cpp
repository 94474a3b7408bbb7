#include "models/weight_places.h"

#include <algorithm>
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

// Something to say once about many matrices.
class Noted {
 public:
  explicit Noted(std::string_view format) : format_(format) {}
  void Add(const std::string& name) {
    if (count_++ == 0) first_ = name;
  }
  void AppendTo(std::vector<std::string>& lines) const {
    if (count_ > 0) lines.push_back(fmt::format(fmt::runtime(format_), count_, first_));
  }

 private:
  std::string_view format_;
  int64_t count_ = 0;
  std::string first_;
};

constexpr DTypes kMatrixDTypes = {DType::kBf16, DType::kF32, DType::kF16, DType::kF8E4M3};

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

size_t WeightPlaces::AddHolder(Holder holder) {
  holders_.push_back(std::move(holder));
  return holders_.size() - 1;
}

WeightRow& WeightPlaces::AddPart(std::string name, int64_t outputs, int64_t inputs, size_t holder,
                                 std::shared_ptr<const MatrixSink> sink) {
  parts_.push_back({.row = rows_.size(), .holder = holder, .sink = sink});
  rows_.push_back({.name = std::move(name),
                   .aliases = {},
                   .shape = {outputs, inputs},
                   .dummy = MatrixInit(inputs),
                   .dtypes = kMatrixDTypes,
                   .place = nullptr});
  PlaceStored({}, {}, std::move(sink), &rows_.back(), nullptr);
  return rows_.back();
}

void WeightPlaces::FloatMatrix(std::string name, int64_t rows, int64_t columns,
                               std::vector<float>* target) {
  const size_t holder = AddHolder({.can_be_fp8 = false, .bytes = [=](WeightLayout) {
                                     return static_cast<uint64_t>(rows * columns) * 4;
                                   }});
  AddPart(std::move(name), rows, columns, holder, std::make_shared<FloatPart>(target)).dtypes =
      kFloatDTypes;  // fp8 is taken if the file has it, but nobody need announce it
}

void WeightPlaces::Matrix(std::string name, int64_t outputs, int64_t inputs, PackedMatrix* target,
                          int64_t begin, int64_t total_outputs, std::vector<std::string> aliases) {
  const auto [at, is_new] = holder_of_.try_emplace(target, holders_.size());
  if (is_new)
    AddHolder({.can_be_fp8 = true,
               .bytes =
                   [=](WeightLayout layout) {
                     return PackedMatrix::Bytes(layout, total_outputs, inputs);
                   },
               .allocate = [=](WeightLayout layout) -> Status {
                 TRY(*target, PackedMatrix::Allocate(layout, total_outputs, inputs));
                 return {};
               }});
  AddPart(std::move(name), outputs, inputs, at->second,
          std::make_shared<PackedPart>(target, begin, outputs))
      .aliases = std::move(aliases);
}

void WeightPlaces::HeadMatrix(std::string name, int64_t outputs, int64_t inputs,
                              PackedMatrix* target) {
  Matrix(std::move(name), outputs, inputs, target, 0, outputs);
  holders_[holder_of_.at(target)].may_quantize = false;
}

void WeightPlaces::AddExpertParts(const std::string& prefix, const ExpertNames& names,
                                  int64_t hidden, int64_t intermediate, ExpertWeights* target,
                                  size_t holder) {
  // In pieces, the intermediate width is what is cut.
  const int rows = names.in_pieces ? 0 : -1, columns = names.in_pieces ? 1 : -1;
  AddPart(prefix + names.gate, intermediate, hidden, holder,
          std::make_shared<ExpertPart<ExpertMatrix::kGate>>(target))
      .piece_axis = rows;
  AddPart(prefix + names.up, intermediate, hidden, holder,
          std::make_shared<ExpertPart<ExpertMatrix::kUp>>(target))
      .piece_axis = rows;
  AddPart(prefix + names.down, hidden, intermediate, holder,
          std::make_shared<ExpertPart<ExpertMatrix::kDown>>(target))
      .piece_axis = columns;
}

void WeightPlaces::Expert(const std::string& prefix, const ExpertNames& names, int64_t hidden,
                          int64_t intermediate, ExpertWeights* target) {
  const size_t holder = AddHolder(
      {.can_be_fp8 = true,
       .bytes =
           [=](WeightLayout layout) { return ExpertWeights::Bytes(layout, hidden, intermediate); },
       .allocate = [=](WeightLayout layout) -> Status {
         TRY(*target, ExpertWeights::Allocate(layout, hidden, intermediate));
         return {};
       }});
  AddExpertParts(prefix, names, hidden, intermediate, target, holder);
}

void WeightPlaces::Experts(const std::string& prefix, const ExpertNames& names, int64_t count,
                           int64_t hidden, int64_t intermediate,
                           std::vector<ExpertWeights>* target) {
  // The experts' addresses must exist before their rows do; their memory comes with Allocate.
  target->resize(static_cast<size_t>(count));
  const size_t holder = AddHolder(
      {.can_be_fp8 = true,
       .bytes =
           [=](WeightLayout layout) {
             return static_cast<uint64_t>(count) *
                    ExpertWeights::Bytes(layout, hidden, intermediate);
           },
       .allocate = [=](WeightLayout layout) -> Status {
         TRY(auto layer, ExpertWeights::AllocateLayer(layout, count, hidden, intermediate));
         std::move(layer.begin(), layer.end(), target->begin());
         return {};
       }});
  for (int64_t e = 0; e < count; ++e)
    AddExpertParts(prefix + std::to_string(e) + ".", names, hidden, intermediate, &(*target)[e],
                   holder);
}

void WeightPlaces::LatentExpansion(std::string name, const MlaShape& shape, MlaWeights* target) {
  const int64_t outputs = shape.heads * (shape.nope + shape.value);
  const size_t holder =
      AddHolder({.can_be_fp8 = false,
                 .bytes =
                     [=, latent = shape.latent](WeightLayout) {  // both forms
                       return static_cast<uint64_t>(outputs * latent) * sizeof(Bf16) * 2;
                     },
                 .allocate = [=](WeightLayout) -> Status {
                   TRY(*target, MlaWeights::Allocate(shape));
                   return {};
                 }});
  AddPart(std::move(name), outputs, shape.latent, holder, std::make_shared<LatentPart>(target));
}

void WeightPlaces::FindFormats(const WeightSource& source,
                               const std::optional<QuantizationConfig>& config) {
  std::vector<const Part*> first(holders_.size());
  for (Part& part : parts_) {
    Holder& holder = holders_[part.holder];
    part.stored = FindStored(source, config, rows_[part.row], &part.scale_row);
    if (!holder.can_be_fp8) continue;
    const Part*& known = first[part.holder];
    if (!known) {
      known = &part;
      holder.layout = part.stored.layout();
    } else if (part.stored.layout() != known->stored.layout()) {
      holder.layout = {};
      holder.is_mixed = true;
    }
  }
}

void WeightPlaces::QuantizeFloats(WeightLayout layout) {
  for (Holder& holder : holders_)
    if (holder.can_be_fp8 && holder.may_quantize && !holder.is_mixed &&
        holder.layout == WeightLayout())
      holder.layout = layout;
}

void WeightPlaces::CountStored() {
  for (const Part& part : parts_) {
    const bool fp8 = part.stored.fp8;
    stored_.floats += !fp8;
    stored_.fp8_channel += fp8 && part.stored.scheme == ScaleScheme::kChannel;
    stored_.fp8_block += fp8 && part.stored.scheme == ScaleScheme::kBlock;
    stored_.fp8_tensor += fp8 && part.stored.scheme == ScaleScheme::kTensor;
    const WeightLayout held = holders_[part.holder].layout;
    stored_.dequantized += fp8 && held != part.stored.layout();
    if (fp8 || held == WeightLayout()) continue;
    ++stored_.quantized;
    stored_.quantized_to = held;
  }
}

void WeightPlaces::AddScaleRows() {
  std::vector<WeightRow> rows;
  rows.reserve(rows_.size() + parts_.size());
  size_t next = 0;
  for (Part& part : parts_) {
    while (next <= part.row) rows.push_back(std::move(rows_[next++]));
    part.row = rows.size() - 1;
    if (!part.stored.fp8) continue;
    PlaceStored(part.stored, holders_[part.holder].layout, part.sink, &rows.back(),
                &part.scale_row);
    rows.push_back(std::move(part.scale_row));
  }
  while (next < rows_.size()) rows.push_back(std::move(rows_[next++]));
  rows_ = std::move(rows);
}

std::vector<std::string> WeightPlaces::Differences(
    const std::optional<QuantizationConfig>& config) const {
  Noted unannounced(
      "{} of the matrices are fp8 though config.json does not say so (the first: {})");
  Noted announced("{} of the matrices are not fp8 though config.json says so (the first: {})");
  Noted mixed(
      "{} of the matrices share memory with others that are stored in another way, and are "
      "held as bfloat16 (the first: {})");
  for (const Part& part : parts_) {
    const WeightRow& row = rows_[part.row];
    const bool says_fp8 = config && config->Quantizes(row.name);
    if (part.stored.fp8 && !says_fp8) unannounced.Add(row.name);
    // Publishers leave gates alone without saying so.
    if (!part.stored.fp8 && says_fp8 && row.dtypes.Has(DType::kF8E4M3)) announced.Add(row.name);
    if (part.stored.fp8 && holders_[part.holder].is_mixed) mixed.Add(row.name);
  }
  std::vector<std::string> lines;
  for (const Noted* noted : {&unannounced, &announced, &mixed}) noted->AppendTo(lines);
  if (config)
    for (const std::string& text : config->ignored.unused())
      lines.push_back("an expression in config.json's list of modules is not used: " + text);
  return lines;
}

std::vector<std::string> WeightPlaces::ChooseFormats(
    const WeightSource& source, const std::optional<QuantizationConfig>& config,
    WeightLayout floats) {
  FindFormats(source, config);
  QuantizeFloats(floats);
  CountStored();
  std::vector<std::string> differences = Differences(config);
  AddScaleRows();
  return differences;
}

std::string StoredCounts::Text() const {
  std::string text;
  const auto add = [&](int64_t count, std::string_view what) {
    if (count > 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, what);
  };
  add(floats, "bf16");
  add(fp8_channel, "fp8 with a scale a row");
  add(fp8_block, "fp8 with a scale a 128 x 128 block");
  add(fp8_tensor, "fp8 with one scale");
  if (dequantized > 0) text += fmt::format(" ({} of them dequantised)", dequantized);
  if (quantized > 0)
    text += fmt::format(" ({} of them quantised to {})", quantized, LayoutName(quantized_to));
  return text;
}

Status WeightPlaces::Allocate() const {
  for (const auto& allocate : before_) RETURN_IF_ERROR(allocate());
  for (const Holder& holder : holders_)
    if (holder.allocate) RETURN_IF_ERROR(holder.allocate(holder.layout));
  return {};
}

uint64_t WeightPlaces::parameters() const {
  uint64_t count = 0;
  for (const WeightRow& row : rows_)
    if (row.required && !row.early) count += static_cast<uint64_t>(Elements(row));
  return count;
}

uint64_t WeightPlaces::bytes() const {
  uint64_t bytes = bytes_;
  for (const Holder& holder : holders_) bytes += holder.bytes(holder.layout);
  return bytes;
}

}  // namespace sluice
