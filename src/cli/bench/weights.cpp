#include "cli/bench/weights.h"

#include <algorithm>

#include "base/units.h"

namespace sluice {
namespace {

struct FormatName {
  std::string_view name;
  WeightLayout layout;
};

// clang-format off
constexpr FormatName kFormats[] = {
    {"bf16",      {}},
    {"fp8",       {WeightFormat::kFp8E4M3, 0}},
    {"fp8_block", {WeightFormat::kFp8E4M3, 128}},
    {"int8",      {WeightFormat::kInt8, 0}},
    {"int4",      {WeightFormat::kInt4, 0}},
};
// clang-format on

Result<WeightLayout> ReadLayout(std::string_view name, const BenchLayerOptions& options) {
  std::string all;
  for (const FormatName& format : kFormats) {
    if (format.name == name) {
      WeightLayout layout = format.layout;
      if (layout.format == WeightFormat::kInt4) {
        layout.scale_inputs = options.group_size;
        layout.zero_points = options.zero_points;
      }
      return layout;
    }
    all += (all.empty() ? "" : ", ") + std::string(format.name);
  }
  return ParamError(Code::kInvalidArgument, "format", "--format has {}, allowed are {}",
                    Quoted(name), all);
}

bool OfIntegers(const WeightLayout& layout) {
  return layout.format == WeightFormat::kInt8 || layout.format == WeightFormat::kInt4;
}

// Formats that Pack makes out of floats; the others are given codes.
bool FromValues(const WeightLayout& layout) {
  return layout.format == WeightFormat::kBf16 || layout.zero_points;
}

uint8_t DrawCode(WeightFormat format, SplitMix64& random) {
  const auto bits = static_cast<uint8_t>(random.Next());
  switch (format) {
    case WeightFormat::kFp8E4M3: return bits & 0xB7;           // below 1, and no NaN
    case WeightFormat::kInt8: return bits == 0x80 ? 0 : bits;  // -128 is no quantiser's
    default: return bits & 0x0F;
  }
}

}  // namespace

Result<std::vector<BenchFormat>> ReadFormats(const BenchLayerOptions& options) {
  if (options.group_size != 32 && options.group_size != 64 && options.group_size != 128)
    return ParamError(Code::kInvalidArgument, "quantization-group-size",
                      "quantization-group-size is {}, allowed are 32, 64, 128", options.group_size);
  std::vector<BenchFormat> out;
  for (const std::string& name : options.formats) {
    TRY(const WeightLayout layout, ReadLayout(name, options));
    for (const std::string& rows : options.activations) {
      TRY(const ActivationQuant asked, ParseActivationQuant(rows));
      BenchFormat format{name, layout, OfIntegers(layout) ? asked : ActivationQuant::kNone};
      if (format.activations == ActivationQuant::kInt8) format.name += ", int8 rows";
      if (std::ranges::find(out, format.name, &BenchFormat::name) == out.end())
        out.push_back(std::move(format));
    }
  }
  return out;
}

RandomWeights::RandomWeights(WeightLayout layout, int64_t outputs, int64_t inputs,
                             SplitMix64& random)
    : layout_(layout) {
  const auto count = static_cast<size_t>(outputs * inputs);
  if (FromValues(layout)) {
    values_.resize(count);
    for (float& x : values_) x = static_cast<float>(random.Uniform() - 0.5) * 0.1f;
    return;
  }
  codes_.resize(count);
  for (uint8_t& code : codes_) code = DrawCode(layout.format, random);
  const float scale = layout.format == WeightFormat::kFp8E4M3 ? 0.05f
                      : layout.format == WeightFormat::kInt8  ? 0.05f / 127
                                                              : 0.05f / 8;
  scales_.assign(count / kPanelInputs + static_cast<size_t>(outputs + inputs), scale);
}

int64_t RandomWeights::OutputsPerScale() const {
  return layout_.format == WeightFormat::kFp8E4M3 ? std::max<int64_t>(layout_.scale_inputs, 1) : 1;
}

View<const float, 2> RandomWeights::Scales(int64_t outputs, int64_t inputs) const {
  return {scales_.data(),
          {CeilDiv(outputs, OutputsPerScale()),
           layout_.scale_inputs ? CeilDiv(inputs, layout_.scale_inputs) : 1}};
}

void RandomWeights::FillAlike(PackedMatrix& weight, int64_t begin, int64_t end) const {
  const int64_t inputs = weight.inputs();
  for (int64_t o = begin; o < end; ++o) {
    if (FromValues(layout_)) {
      weight.Pack(o, Matrix(values_, 1, inputs));
      continue;
    }
    weight.PackCodes(o, Matrix(codes_, 1, inputs));
    weight.SetScales(o, 1, Scales(1, inputs), OutputsPerScale());
  }
}

void RandomWeights::Fill(ExpertWeights& expert) const {
  const int64_t hidden = expert.hidden(), intermediate = expert.intermediate();
  if (FromValues(layout_)) {
    expert.PackGate(Matrix(values_, intermediate, hidden));
    expert.PackUp(Matrix(values_, intermediate, hidden));
    expert.PackDown(Matrix(values_, hidden, intermediate));
    return;
  }
  expert.PackGateCodes(Matrix(codes_, intermediate, hidden));
  expert.PackUpCodes(Matrix(codes_, intermediate, hidden));
  expert.PackDownCodes(Matrix(codes_, hidden, intermediate));
  expert.SetGateScales(Scales(intermediate, hidden), OutputsPerScale());
  expert.SetUpScales(Scales(intermediate, hidden), OutputsPerScale());
  expert.SetDownScales(Scales(hidden, intermediate), OutputsPerScale());
}

}  // namespace sluice
