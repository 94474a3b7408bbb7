#include "models/stored_matrix.h"

#include <array>
#include <limits>
#include <vector>

#include "base/units.h"
#include "formats/fp8/e4m3.h"

namespace sluice {
namespace {

constexpr std::string_view kScaleSuffixes[] = {"_scale", "_scale_inv"};

// Every code times the scale must be a finite float.
constexpr float kScaleMax = std::numeric_limits<float>::max() / kE4M3Max;

// The scale that dummy codes of standard deviation kDummyCodes need; four deviations fit.
constexpr float kDummyCodes = kE4M3Max / 4;

std::vector<std::vector<int64_t>> ShapesOf(ScaleScheme scheme, int64_t outputs, int64_t inputs) {
  switch (scheme) {
    case ScaleScheme::kChannel: return {{outputs, 1}, {outputs}};
    case ScaleScheme::kBlock:
      return {{CeilDiv(outputs, kScaleBlock), CeilDiv(inputs, kScaleBlock)}};
    case ScaleScheme::kTensor: return {{1}, {}};
  }
  return {};
}

// Which scales a tensor of this shape holds. Shapes that several schemes share mean the same.
std::optional<ScaleScheme> SchemeOf(std::span<const int64_t> found, int64_t outputs,
                                    int64_t inputs) {
  for (const ScaleScheme scheme :
       {ScaleScheme::kChannel, ScaleScheme::kTensor, ScaleScheme::kBlock})
    for (const std::vector<int64_t>& shape : ShapesOf(scheme, outputs, inputs))
      if (std::equal(shape.begin(), shape.end(), found.begin(), found.end())) return scheme;
  return {};
}

// The scales of one matrix while it loads.
struct Scales {
  int64_t rows, columns;  // of the scale tensor
  int64_t outputs_per_scale, inputs_per_scale;
  std::vector<float> values;   // [rows, columns], kept for what is dequantised
  std::vector<int64_t> zeros;  // elements that are zero
};

Scales ScalesOf(ScaleScheme scheme, int64_t outputs, int64_t inputs) {
  Scales out;
  out.outputs_per_scale = scheme == ScaleScheme::kChannel ? 1
                          : scheme == ScaleScheme::kBlock ? kScaleBlock
                                                          : outputs;
  out.inputs_per_scale = scheme == ScaleScheme::kBlock ? kScaleBlock : inputs;
  out.rows = CeilDiv(outputs, out.outputs_per_scale);
  out.columns = CeilDiv(inputs, out.inputs_per_scale);
  return out;
}

Status PlaceScales(const TensorData& data, const MatrixSink* sink, Scales& scales) {
  std::vector<float> values(static_cast<size_t>(data.count()));
  data.ToFloat(0, data.count(), values.data());
  for (size_t i = 0; i < values.size(); ++i) {
    if (!(values[i] >= 0 && values[i] <= kScaleMax))
      return Error(Code::kBadCheckpoint, "element {} is {}, allowed are scales from 0 to {:.3g}", i,
                   values[i], kScaleMax);
    if (values[i] == 0) scales.zeros.push_back(static_cast<int64_t>(i));
  }
  if (sink)
    sink->SetScales({values.data(), {scales.rows, scales.columns}}, scales.outputs_per_scale);
  else
    scales.values = std::move(values);
  return {};
}

// A row of zeros has a scale of zero in some files; any other code there would be lost.
Status CheckZeros(View<const uint8_t, 2> codes, const Scales& scales, const std::string& name) {
  for (const int64_t zero : scales.zeros) {
    const int64_t row = zero / scales.columns * scales.outputs_per_scale;
    const int64_t column = zero % scales.columns * scales.inputs_per_scale;
    for (int64_t r = row; r < std::min(row + scales.outputs_per_scale, codes.dim(0)); ++r)
      for (int64_t c = column; c < std::min(column + scales.inputs_per_scale, codes.dim(1)); ++c)
        if (codes(r, c) & 0x7F)
          return Error(Code::kBadCheckpoint,
                       "element [{}, {}] is not 0, but its scale is: {}, element {}", r, c, name,
                       zero);
  }
  return {};
}

void Dequantize(View<const uint8_t, 2> codes, const Scales& scales, const MatrixSink& sink) {
  const std::array<float, 256>& values = E4M3Values();
  const int64_t outputs = codes.dim(0), inputs = codes.dim(1);
  std::vector<float> floats(static_cast<size_t>(outputs * inputs));
  for (int64_t r = 0; r < outputs; ++r)
    for (int64_t c = 0; c < inputs; ++c)
      floats[r * inputs + c] =
          values[codes(r, c)] *
          scales
              .values[r / scales.outputs_per_scale * scales.columns + c / scales.inputs_per_scale];
  sink.Pack(View<const float, 2>(floats.data(), {outputs, inputs}));
}

// Floats of any kind: bfloat16 rows as they are, or as floats.
void PlaceFloats(const TensorData& data, const MatrixSink& sink) {
  const int64_t outputs = data.shape[0], inputs = data.shape[1];
  if (data.dtype == DType::kBf16) {
    sink.Pack(View<const Bf16, 2>(data.As<Bf16>(), {outputs, inputs}));
    return;
  }
  std::vector<float> floats(static_cast<size_t>(outputs * inputs));
  data.ToFloat(0, outputs * inputs, floats.data());
  sink.Pack(View<const float, 2>(floats.data(), {outputs, inputs}));
}

}  // namespace

StoredMatrix FindStored(const WeightSource& source, const std::optional<QuantizationConfig>& config,
                        const WeightRow& row, WeightRow* scale_row) {
  const std::optional<TensorInfo> found = source.Find(row);
  if (!found || found->dtype != DType::kF8E4M3) return {};
  StoredMatrix out = {true, config ? config->scheme : ScaleScheme::kChannel};
  const int64_t outputs = row.shape[0], inputs = row.shape[1];
  const std::string_view suffix = config ? std::string_view(config->scale_suffix) : "_scale";
  scale_row->name = fmt::format("{}{}", found->name, suffix);
  for (const std::string_view other : kScaleSuffixes)
    if (other != suffix) scale_row->aliases.push_back(fmt::format("{}{}", found->name, other));
  scale_row->dtypes = {DType::kF32, DType::kBf16};
  scale_row->note =
      fmt::format("the scale of {}, which is {}", found->name, DTypeName(found->dtype));
  scale_row->early = true;
  // The scheme that is expected first, so that this is what a report and dummy weights have.
  std::vector<std::vector<int64_t>>& others = scale_row->other_shapes;
  others = ShapesOf(out.scheme, outputs, inputs);
  scale_row->shape = others[0];
  others.erase(others.begin());
  for (const ScaleScheme scheme :
       {ScaleScheme::kChannel, ScaleScheme::kTensor, ScaleScheme::kBlock})
    if (scheme != out.scheme)
      for (std::vector<int64_t>& shape : ShapesOf(scheme, outputs, inputs))
        others.push_back(std::move(shape));
  if (const auto scale = source.Find(*scale_row))
    out.scheme = SchemeOf(scale->shape, outputs, inputs).value_or(out.scheme);
  return out;
}

void PlaceStored(const StoredMatrix& stored, WeightLayout held,
                 const std::shared_ptr<const MatrixSink>& sink, WeightRow* row,
                 WeightRow* scale_row) {
  if (!stored.fp8) {
    row->place = [=](const TensorData& data) {
      PlaceFloats(data, *sink);
      return Status();
    };
    return;
  }
  const int64_t outputs = row->shape[0], inputs = row->shape[1];
  const bool keeps_codes = held == stored.layout();
  const auto scales = std::make_shared<Scales>(ScalesOf(stored.scheme, outputs, inputs));
  scale_row->dummy = DummyInit::Constant(row->dummy.value / kDummyCodes);
  row->dummy = DummyInit::Normal(kDummyCodes);
  row->dtypes = {DType::kF8E4M3};
  scale_row->place = [=](const TensorData& data) {
    return PlaceScales(data, keeps_codes ? sink.get() : nullptr, *scales);
  };
  row->place = [=, scale_name = scale_row->name](const TensorData& data) -> Status {
    const View<const uint8_t, 2> codes(data.As<uint8_t>(), {outputs, inputs});
    RETURN_IF_ERROR(CheckZeros(codes, *scales, scale_name));
    if (keeps_codes)
      sink->PackCodes(codes);
    else
      Dequantize(codes, *scales, *sink);
    scales->values = {};
    return {};
  };
}

std::string_view MatrixOfScale(std::string_view tensor) {
  for (const std::string_view suffix : kScaleSuffixes)
    if (tensor.ends_with(suffix)) return tensor.substr(0, tensor.size() - suffix.size());
  return {};
}

}  // namespace sluice
