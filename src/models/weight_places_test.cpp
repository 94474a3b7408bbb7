// Matrices as checkpoints store them: bf16, fp8 with scales of every form, and files that lie.
#include "models/weight_places.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "base/random.h"
#include "checkpoint/safetensors_builder.h"
#include "formats/fp8/e4m3.h"
#include "formats/fp8/quantize.h"
#include "models/load_quantization.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

template <class T>
std::string Bytes(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

std::vector<Bf16> Rounded(const std::vector<float>& values) {
  std::vector<Bf16> out;
  for (float x : values) out.push_back(ToBf16(x));
  return out;
}

std::vector<float> Random(int64_t count, uint64_t seed) {
  SplitMix64 random(seed);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& x : out) x = random.Normal();
  return out;
}

// How a test stores a matrix.
enum class Form { kBf16, kChannel, kChannelFlat, kBlock, kTensor, kScalar };

struct Stored {
  int64_t outputs, inputs;
  std::vector<float> values;  // what the file means, exactly
};

// Adds random values under `name` in a form; scales in BF16 have values that it represents.
Stored AddMatrix(SafetensorsBuilder& file, const std::string& name, int64_t outputs, int64_t inputs,
                 Form form, bool bf16_scales = false, const std::string& suffix = "_scale") {
  Stored out{outputs, inputs, Random(outputs * inputs, std::hash<std::string>()(name))};
  const std::string shape = fmt::format("[{},{}]", outputs, inputs);
  if (form == Form::kBf16) {
    for (float& x : out.values) x = RoundToBf16(x);
    file.Add(name, "BF16", shape, Bytes(Rounded(out.values)));
    return out;
  }
  const View<const float, 2> w(out.values.data(), {outputs, inputs});
  const bool channel = form == Form::kChannel || form == Form::kChannelFlat;
  const int64_t rows = channel ? 1 : form == Form::kBlock ? 128 : outputs;
  const int64_t columns = form == Form::kBlock ? 128 : inputs;
  Fp8Quantized quantized = QuantizeFp8(w, rows, columns);
  if (bf16_scales)
    for (float& scale : quantized.scales) scale = RoundToBf16(scale);
  const View<const float, 2> scales = quantized.Scales();
  for (int64_t r = 0; r < outputs; ++r)
    for (int64_t c = 0; c < inputs; ++c)
      out.values[r * inputs + c] =
          E4M3ToFloat(quantized.codes[r * inputs + c]) * scales(r / rows, c / columns);
  file.Add(name, "F8_E4M3", shape, Bytes(quantized.codes));
  const std::string scale_shape = form == Form::kScalar   ? "[]"
                                  : form == Form::kTensor ? "[1]"
                                  : form == Form::kChannelFlat
                                      ? fmt::format("[{}]", outputs)
                                      : fmt::format("[{},{}]", scales.dim(0), scales.dim(1));
  file.Add(name + suffix, bf16_scales ? "BF16" : "F32", scale_shape,
           bf16_scales ? Bytes(Rounded(quantized.scales)) : Bytes(quantized.scales));
  return out;
}

// A file's checkpoint, which goes away with the object.
struct OneFile {
  explicit OneFile(const SafetensorsBuilder& builder) {
    std::string name = testing::TempDir() + "weight_places_test_XXXXXX";
    directory = mkdtemp(name.data());
    WriteTo(directory + "/model.safetensors", builder.file());
    auto opened = Checkpoint::Open(directory);
    EXPECT_TRUE(opened.ok()) << opened.status().message();
    if (opened.ok()) checkpoint.emplace(*std::move(opened));
  }
  ~OneFile() { std::filesystem::remove_all(directory); }
  std::string directory;
  std::optional<Checkpoint> checkpoint;
};

Status Load(WeightPlaces& places, const WeightSource& source,
            const std::optional<QuantizationConfig>& config = std::nullopt,
            std::vector<std::string>* differences = nullptr) {
  const std::vector<std::string> lines = places.ChooseFormats(source, config);
  if (differences) *differences = lines;
  RETURN_IF_ERROR(source.Check(places.rows(), nullptr));
  RETURN_IF_ERROR(places.Allocate());
  Team team(2);
  return LoadWeights(source, places.rows(), team);
}

Status Load(WeightPlaces& places, const SafetensorsBuilder& builder,
            const std::optional<QuantizationConfig>& config = std::nullopt,
            std::vector<std::string>* differences = nullptr) {
  OneFile file(builder);
  return Load(places, *CheckpointSource(*file.checkpoint), config, differences);
}

// Outputs [begin, ...) of a packed matrix hold exactly what was stored.
void ExpectHolds(const PackedMatrix& packed, int64_t begin, const Stored& stored) {
  int64_t wrong = 0;
  for (int64_t r = 0; r < stored.outputs; ++r)
    for (int64_t c = 0; c < stored.inputs; ++c)
      wrong += packed.At(begin + r, c) != stored.values[r * stored.inputs + c];
  EXPECT_EQ(wrong, 0);
}

// The same, rounded to bfloat16.
void ExpectHoldsRounded(const PackedMatrix& packed, int64_t begin, Stored stored) {
  for (float& x : stored.values) x = RoundToBf16(x);
  ExpectHolds(packed, begin, stored);
}

constexpr WeightLayout kRowScales = {WeightFormat::kFp8E4M3, 0};
constexpr WeightLayout kBlockScales = {WeightFormat::kFp8E4M3, 128};

TEST(WeightPlaces, KeepsFp8AsItIsStoredWhateverTheFormOfTheScales) {
  const struct {
    Form form;
    bool bf16_scales;
    const char* suffix;
    WeightLayout layout;
  } kCases[] = {
      {Form::kChannel, false, "_scale", kRowScales},
      {Form::kChannel, true, "_scale", kRowScales},
      {Form::kChannelFlat, false, "_scale", kRowScales},
      {Form::kChannelFlat, true, "_scale", kRowScales},
      {Form::kTensor, false, "_scale", kRowScales},
      {Form::kScalar, true, "_scale", kRowScales},
      {Form::kBlock, false, "_scale_inv", kBlockScales},
      {Form::kBlock, true, "_scale_inv", kBlockScales},
      {Form::kBlock, false, "_scale", kBlockScales},
  };
  for (const auto& [outputs, inputs] : {std::pair{200, 300}, {128, 128}, {33, 70}, {257, 17}})
    for (const auto& c : kCases) {
      SafetensorsBuilder file;
      const Stored stored =
          AddMatrix(file, "w.weight", outputs, inputs, c.form, c.bf16_scales, c.suffix);
      PackedMatrix packed;
      WeightPlaces places;
      places.Matrix("w.weight", outputs, inputs, &packed, 0, outputs);
      const Status status = Load(places, file);
      ASSERT_TRUE(status.ok()) << status.message();
      EXPECT_EQ(packed.layout(), c.layout) << outputs;
      EXPECT_EQ(places.bytes(), PackedMatrix::Bytes(c.layout, outputs, inputs));
      EXPECT_EQ(places.parameters(), static_cast<uint64_t>(outputs * inputs));
      EXPECT_EQ(places.stored().dequantized, 0);
      ExpectHolds(packed, 0, stored);
    }
}

TEST(WeightPlaces, PartsOfAFusedMatrixBringTheirOwnScales) {
  for (const Form form : {Form::kChannel, Form::kBlock, Form::kTensor}) {
    SafetensorsBuilder file;
    const Stored q = AddMatrix(file, "q.weight", 140, 160, form, true);
    const Stored k = AddMatrix(file, "k.weight", 20, 160, form);
    const Stored v = AddMatrix(file, "v_also.weight", 20, 160, form);
    PackedMatrix packed;
    WeightPlaces places;
    places.Matrix("q.weight", 140, 160, &packed, 0, 180);
    places.Matrix("k.weight", 20, 160, &packed, 140, 180);
    places.Matrix("v.weight", 20, 160, &packed, 160, 180, {"v_also.weight"});
    const Status status = Load(places, file);
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(packed.layout(), form == Form::kBlock ? kBlockScales : kRowScales);
    ExpectHolds(packed, 0, q);
    ExpectHolds(packed, 140, k);
    ExpectHolds(packed, 160, v);
  }
}

TEST(WeightPlaces, PartsStoredInDifferentWaysAreHeldAsBfloat16AndSaid) {
  for (const Form form : {Form::kBf16, Form::kBlock}) {
    SafetensorsBuilder file;
    const Stored q = AddMatrix(file, "q.weight", 140, 160, Form::kChannel);
    const Stored k = AddMatrix(file, "k.weight", 20, 160, form);
    PackedMatrix packed;
    WeightPlaces places;
    places.Matrix("q.weight", 140, 160, &packed, 0, 160);
    places.Matrix("k.weight", 20, 160, &packed, 140, 160);
    std::vector<std::string> differences;
    const Status status = Load(places, file, QuantizationConfig(), &differences);
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(packed.layout(), WeightLayout());
    ExpectHoldsRounded(packed, 0, q);
    ExpectHoldsRounded(packed, 140, k);
    EXPECT_THAT(differences, Contains(AllOf(HasSubstr("q.weight"), HasSubstr("bfloat16"))));
    EXPECT_EQ(places.stored().dequantized, form == Form::kBf16 ? 1 : 2);
    EXPECT_EQ(places.bytes(), PackedMatrix::Bytes(160, 160));
  }
}

TEST(WeightPlaces, ExpertsOfALayerKeepTheirScalesApart) {
  for (const Form form : {Form::kChannel, Form::kBlock, Form::kTensor}) {
    constexpr int64_t kHidden = 136, kIntermediate = 20;
    SafetensorsBuilder file;
    std::vector<Stored> gate, up, down;
    for (int e = 0; e < 3; ++e) {
      const std::string prefix = fmt::format("mlp.{}.", e);
      gate.push_back(
          AddMatrix(file, prefix + "gate_proj.weight", kIntermediate, kHidden, form, e == 1));
      up.push_back(AddMatrix(file, prefix + "up_proj.weight", kIntermediate, kHidden, form));
      down.push_back(AddMatrix(file, prefix + "down_proj.weight", kHidden, kIntermediate, form));
    }
    std::vector<ExpertWeights> experts;
    WeightPlaces places;
    places.Experts("mlp.", ExpertNames(), 3, kHidden, kIntermediate, &experts);
    const Status status = Load(places, file);
    ASSERT_TRUE(status.ok()) << status.message();
    for (int e = 0; e < 3; ++e) {
      EXPECT_EQ(experts[e].down().layout(), form == Form::kBlock ? kBlockScales : kRowScales);
      ExpectHolds(experts[e].down(), 0, down[e]);
      // Gate and up lie in turns of 16 columns.
      for (int64_t o = 0; o < kIntermediate; ++o)
        for (int64_t i = 0; i < kHidden; ++i) {
          const int64_t column = o / 16 * 32 + o % 16;
          ASSERT_EQ(experts[e].gate_up().At(column, i), gate[e].values[o * kHidden + i]);
          ASSERT_EQ(experts[e].gate_up().At(column + 16, i), up[e].values[o * kHidden + i]);
        }
    }
  }
}

TEST(WeightPlaces, OneOddExpertMakesItsLayerBfloat16) {
  SafetensorsBuilder file;
  Stored down{};
  for (int e = 0; e < 2; ++e)
    for (const char* name : {"gate_proj.weight", "up_proj.weight", "down_proj.weight"})
      down = AddMatrix(file, fmt::format("{}.{}", e, name), 32, 32,
                       e == 0 && name[0] == 'u' ? Form::kBf16 : Form::kChannel);
  std::vector<ExpertWeights> experts;
  WeightPlaces places;
  places.Experts("", ExpertNames(), 2, 32, 32, &experts);
  const Status status = Load(places, file);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(experts[1].gate_up().layout(), WeightLayout());
  ExpectHoldsRounded(experts[1].down(), 0, down);
}

TEST(WeightPlaces, KvExpansionAndGatesAreDequantised) {
  const MlaShape shape = {.heads = 2, .nope = 80, .rope = 16, .value = 70, .latent = 48};
  for (const Form form : {Form::kChannel, Form::kBlock, Form::kTensor, Form::kBf16}) {
    SafetensorsBuilder file;
    const Stored kv = AddMatrix(file, "kv_b.weight", 300, 48, form);
    const Stored gate = AddMatrix(file, "gate.weight", 8, 40, form);
    MlaWeights weights;
    std::vector<float> floats;
    WeightPlaces places;
    places.LatentExpansion("kv_b.weight", shape, &weights);
    places.FloatMatrix("gate.weight", 8, 40, &floats);
    const Status status = Load(places, file);
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(floats, gate.values);
    for (int64_t head = 0; head < 2; ++head)
      for (int64_t o = 0; o < 150; ++o)
        for (int64_t i = 0; i < 48; ++i)
          ASSERT_EQ(weights.expand(head).At(o, i),
                    RoundToBf16(kv.values[(head * 150 + o) * 48 + i]));
    EXPECT_EQ(places.stored().dequantized, form == Form::kBf16 ? 0 : 2);
  }
}

TEST(WeightPlaces, OtherFloatFilesAreRoundedAsBefore) {
  SafetensorsBuilder file;
  const std::vector<float> values = Random(6, 5);
  file.Add("w.weight", "F32", "[2,3]", Bytes(values));
  PackedMatrix packed;
  WeightPlaces places;
  places.Matrix("w.weight", 2, 3, &packed, 0, 2);
  ASSERT_TRUE(Load(places, file).ok());
  ExpectHoldsRounded(packed, 0, {2, 3, values});
}

TEST(WeightPlaces, ZeroScalesMayCoverZerosOnly) {
  for (const uint8_t code : {0x00, 0x80, 0x01}) {
    SafetensorsBuilder file;
    file.Add("w.weight", "F8_E4M3", "[2,3]", Bytes(std::vector<uint8_t>{1, 2, 3, 0, code, 0}));
    file.Add("w.weight_scale", "F32", "[2]", Bytes(std::vector<float>{2, 0}));
    PackedMatrix packed;
    WeightPlaces places;
    places.Matrix("w.weight", 2, 3, &packed, 0, 2);
    const Status status = Load(places, file);
    EXPECT_EQ(status.ok(), code != 1) << status.message();
    if (status.ok()) continue;
    EXPECT_THAT(status.message(), AllOf(HasSubstr("\"w.weight\": element [1, 1] is not 0"),
                                        HasSubstr("w.weight_scale, element 1")));
  }
}

TEST(WeightPlaces, RefusesWhatIsWrongWithScalesByName) {
  const float kNan = std::nanf(""), kInf = std::numeric_limits<float>::infinity();
  using Floats = std::vector<float>;
  const std::string codes = Bytes(std::vector<uint8_t>{1, 2, 3, 4, 5, 6});
  const struct {
    const char* dtype;
    std::string codes;
    const char *scale, *scale_dtype, *scale_shape;
    std::string scales;
    std::vector<const char*> says;
  } kCases[] = {
      {"F8_E4M3",
       codes,
       "",
       "",
       "",
       "",
       {"1 missing", "w.weight_scale [2, 1], [2], [1], [] or [1, 1]",
        "the scale of w.weight, which is F8_E4M3"}},
      {"F8_E4M3",
       codes,
       "w.weight_scale",
       "F32",
       "[3]",
       Bytes(Floats{1, 1, 1}),
       {"\"w.weight_scale\" is [3], expected is [2, 1], [2], [1], [] or [1, 1]"}},
      {"F8_E4M3",
       codes,
       "w.weight_scale",
       "F32",
       "[1,2]",
       Bytes(Floats{1, 1}),
       {"\"w.weight_scale\" is [1, 2]"}},
      {"F8_E4M3", codes, "w.weight_scale", "F32", "[0]", "", {"\"w.weight_scale\" is [0]"}},
      {"F8_E4M3",
       codes,
       "w.weight_scale",
       "F16",
       "[2]",
       "1234",
       {"\"w.weight_scale\" is F16, accepted are F32, BF16"}},
      {"F8_E4M3", codes, "w.weight_scale", "I32", "[2]", "12345678", {"is I32, accepted"}},
      {"F8_E4M3",
       codes,
       "w.weight_scale",
       "F32",
       "[2]",
       Bytes(Floats{1, kNan}),
       {"\"w.weight_scale\": element 1 is NaN or infinite"}},
      {"F8_E4M3",
       codes,
       "w.weight_scale",
       "F32",
       "[2]",
       Bytes(Floats{kInf, 1}),
       {"\"w.weight_scale\": element 0 is NaN or infinite"}},
      {"F8_E4M3",
       codes,
       "w.weight_scale",
       "F32",
       "[2]",
       Bytes(Floats{1, -0.5}),
       {"\"w.weight_scale\": element 1 is -0.5, allowed are scales from 0 to 7.6e+35"}},
      {"F8_E4M3",
       codes,
       "w.weight_scale",
       "F32",
       "[2]",
       Bytes(Floats{1, 1e36f}),
       {"\"w.weight_scale\": element 1 is 1e+36"}},
      {"F8_E4M3",
       Bytes(std::vector<uint8_t>{1, 2, 3, 4, 0x7F, 6}),
       "w.weight_scale",
       "F32",
       "[2]",
       Bytes(Floats{1, 1}),
       {"\"w.weight\": element 4 is NaN"}},
      {"F8_E4M3",
       Bytes(std::vector<uint8_t>{0xFF, 2, 3, 4, 5, 6}),
       "w.weight_scale",
       "F32",
       "[2]",
       Bytes(Floats{1, 1}),
       {"\"w.weight\": element 0 is NaN"}},
      {"BF16",
       codes + codes,
       "w.weight_scale",
       "F32",
       "[2]",
       Bytes(Floats{1, 1}),
       {"1 surplus", "\"w.weight_scale\" [2]"}},
      {"I8",
       codes,
       "w.weight_scale",
       "F32",
       "[2]",
       Bytes(Floats{1, 1}),
       {"\"w.weight\" is I8, accepted are F32, BF16, F16, F8_E4M3", "surplus"}},
  };
  for (const auto& c : kCases) {
    SafetensorsBuilder file;
    file.Add("w.weight", c.dtype, "[2,3]", c.codes);
    if (*c.scale) file.Add(c.scale, c.scale_dtype, c.scale_shape, c.scales);
    PackedMatrix packed;
    WeightPlaces places;
    places.Matrix("w.weight", 2, 3, &packed, 0, 2);
    const Status status = Load(places, file);
    ASSERT_FALSE(status.ok()) << c.says[0];
    EXPECT_EQ(status.code(), Code::kBadCheckpoint);
    for (const char* text : c.says) EXPECT_THAT(status.message(), HasSubstr(text));
  }
}

TEST(WeightPlaces, TwoScalesOfOneMatrixAreOneTooMany) {
  SafetensorsBuilder file;
  AddMatrix(file, "w.weight", 2, 3, Form::kChannel);
  file.Add("w.weight_scale_inv", "F32", "[1,1]", "1234");
  PackedMatrix packed;
  WeightPlaces places;
  places.Matrix("w.weight", 2, 3, &packed, 0, 2);
  EXPECT_THAT(Load(places, file).message(),
              AllOf(HasSubstr("surplus"), HasSubstr("w.weight_scale_inv")));
}

TEST(WeightPlaces, ReportsWhereTheConfigContradictsTheTensors) {
  SafetensorsBuilder file;
  AddMatrix(file, "a.weight", 4, 4, Form::kChannel);
  AddMatrix(file, "b.weight", 4, 4, Form::kBf16);
  AddMatrix(file, "gate.weight", 4, 4, Form::kBf16);
  const auto differences = [&](const std::optional<QuantizationConfig>& config) {
    PackedMatrix a, b;
    std::vector<float> gate;
    WeightPlaces places;
    places.Matrix("a.weight", 4, 4, &a, 0, 4);
    places.Matrix("b.weight", 4, 4, &b, 0, 4);
    places.FloatMatrix("gate.weight", 4, 4, &gate);
    std::vector<std::string> out;
    const Status status = Load(places, file, config, &out);
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(places.stored().Text(), "2 bf16, 1 fp8 with a scale a row");
    return out;
  };
  QuantizationConfig config;
  config.ignored = ModuleNames({"b"});
  EXPECT_THAT(differences(config), IsEmpty());
  config.ignored = ModuleNames({"a"});
  EXPECT_THAT(differences(config),
              AllOf(Contains(HasSubstr("1 of the matrices are fp8 though config.json does not say "
                                       "so (the first: a.weight)")),
                    Contains(HasSubstr("1 of the matrices are not fp8 though config.json says so "
                                       "(the first: b.weight)"))));
  EXPECT_THAT(differences(std::nullopt), Contains(HasSubstr("a.weight")));
  config.ignored = ModuleNames({"b", "re:(?=x)"});
  EXPECT_THAT(differences(config), Contains(HasSubstr("re:(?=x)")));
}

TEST(WeightPlaces, DummyWeightsHaveTheFormatThatTheConfigAnnounces) {
  for (const ScaleScheme scheme :
       {ScaleScheme::kChannel, ScaleScheme::kBlock, ScaleScheme::kTensor}) {
    QuantizationConfig config;
    config.scheme = scheme;
    config.ignored = ModuleNames({"head"});
    PackedMatrix w, head;
    std::vector<float> gate;
    WeightPlaces places;
    places.Matrix("w.weight", 256, 400, &w, 0, 256);
    places.Matrix("head.weight", 64, 400, &head, 0, 64);
    places.FloatMatrix("gate.weight", 8, 400, &gate);
    std::vector<std::string> differences;
    const Status status = Load(places, *DummySource(1, config), config, &differences);
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_THAT(differences, IsEmpty());
    EXPECT_EQ(w.layout(), scheme == ScaleScheme::kBlock ? kBlockScales : kRowScales);
    EXPECT_EQ(head.layout(), WeightLayout());
    double squares = 0;
    for (int64_t o = 0; o < 256; ++o)
      for (int64_t i = 0; i < 400; ++i) squares += std::pow(w.At(o, i), 2);
    EXPECT_NEAR(std::sqrt(squares / (256 * 400)), 1 / std::sqrt(400.0), 0.002);
  }
}

TEST(WeightPlaces, QuantisesFloatsAsTheyLoadButNotTheHead) {
  const WeightLayout layouts[] = {{WeightFormat::kFp8E4M3},
                                  {WeightFormat::kInt8},
                                  {WeightFormat::kInt4, 32},
                                  {WeightFormat::kInt4, 128, true}};
  for (const WeightLayout layout : layouts) {
    SafetensorsBuilder file;
    const Stored q = AddMatrix(file, "q.weight", 40, 200, Form::kBf16);
    const Stored k = AddMatrix(file, "k.weight", 24, 200, Form::kBf16);
    const Stored head = AddMatrix(file, "head.weight", 50, 200, Form::kBf16);
    const Stored gate = AddMatrix(file, "gate.weight", 4, 200, Form::kBf16);
    const Stored e_gate = AddMatrix(file, "e.gate_proj.weight", 20, 200, Form::kBf16);
    AddMatrix(file, "e.up_proj.weight", 20, 200, Form::kBf16);
    AddMatrix(file, "e.down_proj.weight", 200, 20, Form::kBf16);
    PackedMatrix qk, held_head;
    ExpertWeights expert;
    std::vector<float> held_gate;
    WeightPlaces places;
    places.Matrix("q.weight", 40, 200, &qk, 0, 64);
    places.Matrix("k.weight", 24, 200, &qk, 40, 64);
    places.HeadMatrix("head.weight", 50, 200, &held_head);
    places.FloatMatrix("gate.weight", 4, 200, &held_gate);
    places.Expert("e.", {}, 200, 20, &expert);
    OneFile opened(file);
    const auto source = CheckpointSource(*opened.checkpoint);
    EXPECT_THAT(places.ChooseFormats(*source, std::nullopt, layout), IsEmpty());
    EXPECT_EQ(places.stored().Text(), "7 bf16 (5 of them quantised to " + LayoutName(layout) + ")");
    ASSERT_TRUE(places.Allocate().ok());
    Team team(2);
    ASSERT_TRUE(LoadWeights(*source, places.rows(), team).ok());
    EXPECT_EQ(places.bytes(), qk.bytes() + held_head.bytes() + expert.bytes() + 4 * 200 * 4);
    EXPECT_EQ(qk.layout(), layout);
    EXPECT_EQ(expert.layout(), layout);
    ExpectHolds(held_head, 0, head);
    EXPECT_EQ(held_gate, gate.values);
    const auto expect_near = [&](const PackedMatrix& packed, int64_t begin, const Stored& stored) {
      for (int64_t o = 0; o < stored.outputs; ++o)
        for (int64_t i = 0; i < 200; ++i) {
          const float w = stored.values[o * 200 + i], scale = std::fabs(packed.Scale(begin + o, i));
          const bool fp8 = layout.format == WeightFormat::kFp8E4M3;
          const float limit = fp8 ? std::max(std::fabs(w) / 16, scale / 1024) : scale / 2;
          ASSERT_LE(std::fabs(packed.At(begin + o, i) - w), limit * 1.0001f)
              << LayoutName(layout) << " " << o << "," << i;
        }
    };
    expect_near(qk, 0, q);
    expect_near(qk, 40, k);
    Stored first = e_gate;  // of the interleaved halves: a panel's first 16 columns
    first.outputs = 16;
    expect_near(expert.gate_up(), 0, first);
  }
}

TEST(LoadQuantization, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(*LayoutOf({}), WeightLayout());
  EXPECT_EQ(*LayoutOf({.format = "int4", .group_size = 32, .zero_points = true}),
            (WeightLayout{WeightFormat::kInt4, 32, true}));
  EXPECT_THAT(LayoutOf({.format = "int3"}).status().message(), HasSubstr("none, fp8, int8, int4"));
  EXPECT_THAT(LayoutOf({.format = "int4", .group_size = 48}).status().message(),
              HasSubstr("quantization-group-size is 48, allowed are 32, 64, 128"));
}

TEST(MatrixOfScale, KnowsBothNames) {
  EXPECT_EQ(MatrixOfScale("a.weight_scale"), "a.weight");
  EXPECT_EQ(MatrixOfScale("a.weight_scale_inv"), "a.weight");
  EXPECT_EQ(MatrixOfScale("a.weight"), "");
  EXPECT_EQ(MatrixOfScale("_scale"), "");
}

}  // namespace
}  // namespace sluice
