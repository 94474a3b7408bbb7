#include "cli/bench_weights.h"

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
    {"bf16",       {}},
    {"fp8",        {WeightFormat::kFp8E4M3, 0}},
    {"fp8_block",  {WeightFormat::kFp8E4M3, 128}},
    {"int8",       {WeightFormat::kInt8, 0}},
    {"int4",       {WeightFormat::kInt4, 128}},
    {"int4_64",    {WeightFormat::kInt4, 64}},
    {"int4_32",    {WeightFormat::kInt4, 32}},
    {"int4_zp",    {WeightFormat::kInt4, 128, true}},
    {"int4_64_zp", {WeightFormat::kInt4, 64, true}},
    {"int4_32_zp", {WeightFormat::kInt4, 32, true}},
};
// clang-format on

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

Result<WeightLayout> ParseFormat(std::string_view name) {
  std::string all;
  for (const FormatName& format : kFormats) {
    if (format.name == name) return format.layout;
    all += (all.empty() ? "" : ", ") + std::string(format.name);
  }
  return ParamError(Code::kInvalidArgument, "format", "--format is {}, allowed are {}",
                    Quoted(name), all);
}

Result<ActivationQuant> ParseActivations(std::string_view name) {
  if (name == "none") return ActivationQuant::kNone;
  if (name == "int8") return ActivationQuant::kInt8;
  return ParamError(Code::kInvalidArgument, "activations",
                    "--activations is {}, allowed are none, int8", Quoted(name));
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
