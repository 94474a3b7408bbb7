#include "checkpoint/weights.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <mutex>
#include <new>
#include <set>

#include "base/mapped_file.h"
#include "checkpoint/safetensors_builder.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kGolden = SLUICE_SOURCE_DIR "/tests/golden/ling25";

Status Nothing(const TensorData&) { return {}; }

WeightRow Row(std::string name, std::vector<int64_t> shape) {
  WeightRow row;
  row.name = std::move(name);
  row.shape = std::move(shape);
  row.place = Nothing;
  return row;
}

// A checkpoint of one file, which goes away with the object.
struct OneFile {
  explicit OneFile(const std::string& bytes) {
    std::string name = testing::TempDir() + "weights_test_XXXXXX";
    directory = mkdtemp(name.data());
    path = directory + "/model.safetensors";
    WriteTo(path, bytes);
    auto opened = Checkpoint::Open(directory);
    EXPECT_TRUE(opened.ok()) << opened.status().message();
    if (opened.ok()) checkpoint.emplace(*std::move(opened));
  }
  ~OneFile() { std::filesystem::remove_all(directory); }
  std::string directory, path;
  std::optional<Checkpoint> checkpoint;
};

// A pre-sharded checkpoint: one tensor "w" of U8 in files m-TP-000, ...: {shape, data} of each; a
// shape of "" leaves the tensor out.
struct PieceFiles {
  explicit PieceFiles(const std::vector<std::pair<std::string, std::string>>& pieces) {
    std::string name = testing::TempDir() + "weights_test_XXXXXX";
    directory = mkdtemp(name.data());
    for (size_t i = 0; i < pieces.size(); ++i) {
      SafetensorsBuilder builder;
      builder.Add("other" + std::to_string(i), "U8", "[1]", "x");  // and "w" is misaligned
      if (!pieces[i].first.empty()) builder.Add("w", "U8", pieces[i].first, pieces[i].second);
      WriteTo(fmt::format("{}/m-TP-{:03}.safetensors", directory, i), builder.file());
    }
    auto opened = Checkpoint::Open(directory);
    EXPECT_TRUE(opened.ok()) << opened.status().message();
    if (opened.ok()) checkpoint.emplace(*std::move(opened));
  }
  ~PieceFiles() { std::filesystem::remove_all(directory); }
  std::string directory;
  std::optional<Checkpoint> checkpoint;
};

WeightRow PieceRow(std::vector<int64_t> shape, int axis) {
  WeightRow row = Row("w", std::move(shape));
  row.piece_axis = axis;
  row.dtypes = {DType::kU8};
  return row;
}

const IgnoreName kIgnoreOthers = [](std::string_view name) { return name.starts_with("other"); };

template <class T>
std::string Bytes(std::initializer_list<T> values) {
  return std::string(reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(T));
}

TEST(CheckWeights, ReportsEverythingWrongAtOnce) {
  SafetensorsBuilder builder;
  builder.Add("present", "BF16", "[2]", "1234").Add("turned", "BF16", "[1,2]", "1234");
  builder.Add("ints", "I16", "[2]", "1234").Add("inv_freq", "F32", "[1]", "1234");
  builder.Add("bias", "F32", "[1]", "1234").Add("e_bias", "F32", "[1]", "1234");
  for (int i = 0; i < 25; ++i) builder.Add(fmt::format("surplus{:02}", i), "U8", "[0]", "");
  OneFile file(builder.file());
  std::vector<WeightRow> rows = {Row("present", {2}), Row("turned", {2, 1}),
                                 Row("ints", {2}),    Row("absent", {3, 4}),
                                 Row("bias", {1}),    Row("optional", {1})};
  rows[4].aliases = {"e_bias"};
  rows[5].required = false;
  const IgnoreName ignore = [](std::string_view name) { return name == "inv_freq"; };
  EXPECT_THAT(
      CheckWeights(*file.checkpoint, rows, ignore).message(),
      AllOf(HasSubstr(file.directory), HasSubstr("1 missing:\n  absent [3, 4]\n"),
            HasSubstr("26 surplus:"), HasSubstr("\"surplus00\" [0]"),
            HasSubstr("\"e_bias\", because \"bias\" is the same tensor"),
            HasSubstr("  and 6 more\n"), Not(HasSubstr("inv_freq")),
            HasSubstr("1 of a wrong shape:\n  \"turned\" is [1, 2], expected is [2, 1]"),
            HasSubstr("\"ints\" is I16, accepted are F32, BF16, F16"), Not(HasSubstr("optional"))));
}

TEST(CheckWeights, NamesEveryAcceptedShapeAndTheReasonForARow) {
  OneFile file(SafetensorsBuilder()
                   .Add("flat", "BF16", "[2]", "1234")
                   .Add("wide", "BF16", "[1,2]", "1234")
                   .file());
  std::vector<WeightRow> rows = {Row("flat", {2, 1}), Row("wide", {2, 1}), Row("scale", {2, 1})};
  for (WeightRow& row : rows) row.other_shapes = {{2}, {1}};
  rows[2].note = "of \"codes\"";
  EXPECT_THAT(CheckWeights(*file.checkpoint, rows, nullptr).message(),
              AllOf(HasSubstr("1 missing:\n  scale [2, 1], [2] or [1], of \"codes\""),
                    HasSubstr("\"wide\" is [1, 2], expected is [2, 1], [2] or [1]"),
                    Not(HasSubstr("flat"))));
}

TEST(CheckWeights, TakesATensorUnderAnAlias) {
  OneFile file(SafetensorsBuilder().Add("o_proj", "BF16", "[2]", "1234").file());
  std::vector<WeightRow> rows = {Row("dense", {2})};
  EXPECT_FALSE(CheckWeights(*file.checkpoint, rows, nullptr).ok());
  rows[0].aliases = {"other", "o_proj"};
  EXPECT_TRUE(CheckWeights(*file.checkpoint, rows, nullptr).ok());
  EXPECT_EQ(CheckpointSource(*file.checkpoint)->Find(rows[0])->dtype, DType::kBf16);
}

TEST(CheckWeights, NamesTheFileOfAPieceThatDoesNotFit) {
  const struct {
    std::vector<std::pair<std::string, std::string>> pieces;
    int axis;
    std::vector<std::string> says;
  } kCases[] = {
      {{{"[2,3]", "abcdef"}, {"[2,3]", "ghijkl"}}, 0, {}},
      {{{"[1,3]", "abc"}, {"[3,3]", "defghijkl"}}, 0, {}},  // no even cut, but it fits
      {{{"[4,3]", "abcdefghijkl"}}, 0, {}},
      {{{"[2,3]", "abcdef"}, {"", ""}}, 0, {"m-TP-001.safetensors lacks its piece of 2"}},
      {{{"", ""}, {"[4,3]", "abcdefghijkl"}}, 0, {"m-TP-000.safetensors lacks its piece of 2"}},
      {{{"[2,3]", "abcdef"}, {"[2,2]", "abcd"}},
       0,
       {"is [2, 2] in ", "m-TP-001.safetensors, expected are pieces of [4, 3] along axis 0"}},
      {{{"[2,3]", "abcdef"}, {"[6]", "abcdef"}}, 0, {"is [6] in ", "m-TP-001"}},
      {{{"[2,3]", "abcdef"}, {"[1,3]", "abc"}},
       0,
       {"2 pieces make [3, 3], expected is [4, 3]", "but [1, 3] in ", "m-TP-001"}},
      {{{"[2,3]", "abcdef"}, {"[2,3]", "abcdef"}, {"[2,3]", "abcdef"}},
       0,
       {"3 pieces make [6, 3], expected is [4, 3]: [2, 3] in ", "m-TP-000"}},
      {{{"[2,3]", "abcdef"}}, 0, {"is [2, 3] in ", "m-TP-000.safetensors, expected is [4, 3]"}},
      {{{"[2,3]", "abcdef"}, {"[2,3]", "ghijkl"}},
       -1,
       {"is in ", "m-TP-000.safetensors and in ", "m-TP-001.safetensors, this model has it whole"}},
  };
  for (const auto& c : kCases) {
    PieceFiles files(c.pieces);
    const std::vector<WeightRow> rows = {PieceRow({4, 3}, c.axis)};
    const Status status = CheckWeights(*files.checkpoint, rows, kIgnoreOthers);
    EXPECT_EQ(status.ok(), c.says.empty()) << status.message();
    for (const std::string& says : c.says)
      EXPECT_THAT(
          status.message(),
          AllOf(HasSubstr("1 in pieces that do not fit together:\n  \"w\": "), HasSubstr(says)));
  }
}

TEST(LoadWeights, JoinsPiecesAlongTheirAxis) {
  const struct {
    std::vector<std::pair<std::string, std::string>> pieces;
    std::vector<int64_t> shape;
    int axis;
    const char* whole;
  } kCases[] = {
      {{{"[2,3]", "abcdef"}, {"[1,3]", "ghi"}}, {3, 3}, 0, "abcdefghi"},
      {{{"[2,3]", "abcghi"}, {"[2,1]", "dj"}, {"[2,2]", "efkl"}}, {2, 6}, 1, "abcdefghijkl"},
      {{{"[2,1,2]", "abgh"}, {"[2,2,2]", "cdefijkl"}}, {2, 3, 2}, 1, "abcdefghijkl"},
      {{{"[2,3]", "abcdef"}}, {2, 3}, 1, "abcdef"},
  };
  for (const auto& c : kCases) {
    PieceFiles files(c.pieces);
    std::vector<WeightRow> rows = {PieceRow(c.shape, c.axis)};
    std::string whole;
    rows[0].place = [&](const TensorData& data) {
      EXPECT_TRUE(std::equal(c.shape.begin(), c.shape.end(), data.shape.begin(), data.shape.end()));
      whole.assign(data.As<char>(), static_cast<size_t>(data.count()));
      return Status();
    };
    Team team(1);
    const Status status = LoadWeights(*CheckpointSource(*files.checkpoint), rows, team);
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(whole, c.whole);
    rows[0].place = [](const TensorData&) { return Error(Code::kUnsupported, "odd"); };
    EXPECT_THAT(LoadWeights(*CheckpointSource(*files.checkpoint), rows, team).message(),
                AllOf(HasSubstr("m-TP-000.safetensors"), HasSubstr("tensor \"w\": odd")));
  }
}

// Rows for every tensor of a checkpoint.
std::vector<WeightRow> RowsOf(const Checkpoint& checkpoint) {
  std::vector<WeightRow> rows;
  for (const TensorInfo& tensor : checkpoint.tensors())
    rows.push_back(Row(tensor.name, tensor.shape));
  return rows;
}

TEST(LoadWeights, GivesEachTensorOfTheGoldenCheckpointOnceWhateverTheLanes) {
  const auto checkpoint = Checkpoint::Open(kGolden);
  ASSERT_TRUE(checkpoint.ok());
  const auto whole = ReadFile(checkpoint->files()[0], 16 << 20);
  for (int lanes : {1, 2, 3}) {
    std::vector<WeightRow> rows = RowsOf(*checkpoint);
    rows.push_back(Row("not.in.the.file", {1}));
    rows.back().required = false;
    std::vector<std::atomic<int>> calls(rows.size());
    std::atomic<int> wrong{0};
    for (size_t r = 0; r < rows.size(); ++r)
      rows[r].place = [&, r](const TensorData& data) {
        ++calls[r];
        const TensorInfo* info = checkpoint->Find(data.name);
        if (!info || std::memcmp(data.data, whole->data() + info->begin, info->bytes())) ++wrong;
        return Status();
      };
    uint64_t last = 0, total = 0;
    LoadOptions options;
    options.progress = [&](uint64_t done, uint64_t all) {
      EXPECT_LE(last, done);
      last = done;
      total = all;
    };
    Team team(lanes);
    const Status status = LoadWeights(*CheckpointSource(*checkpoint), rows, team, options);
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(last, checkpoint->data_bytes());
    EXPECT_EQ(total, checkpoint->data_bytes());
    EXPECT_EQ(wrong, 0);
    for (size_t r = 0; r + 1 < rows.size(); ++r) EXPECT_EQ(calls[r], 1) << rows[r].name;
    EXPECT_EQ(calls.back(), 0);
  }
}

TEST(LoadWeights, PlacesEarlyRowsBeforeAllOthers) {
  const auto checkpoint = Checkpoint::Open(kGolden);
  ASSERT_TRUE(checkpoint.ok());
  for (int lanes : {1, 3}) {
    std::vector<WeightRow> rows = RowsOf(*checkpoint);
    std::atomic<int> early{0}, late{0}, wrong{0};
    int wanted = 0;
    for (size_t r = 0; r < rows.size(); ++r) {
      rows[r].early = r % 3 == 0;
      wanted += rows[r].early;
      rows[r].place = [&, is_early = rows[r].early](const TensorData&) {
        if (is_early && late > 0) ++wrong;
        ++(is_early ? early : late);
        return Status();
      };
    }
    Team team(lanes);
    const Status status = LoadWeights(*CheckpointSource(*checkpoint), rows, team);
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(early, wanted);
    EXPECT_EQ(early + late, static_cast<int>(rows.size()));
  }
}

TEST(LoadWeights, ConvertsEachFloatTypeAlsoAtOddAddresses) {
  OneFile file(SafetensorsBuilder()
                   .Add("a.shift", "U8", "[1]", "x")  // everything behind it is misaligned
                   .Add("bf16", "BF16", "[2]", Bytes<uint16_t>({0x3FC0, 0xC000}))
                   .Add("f16", "F16", "[3]", Bytes<uint16_t>({0x3E00, 0xC000, 0x0001}))
                   .Add("f32", "F32", "[2]", Bytes<float>({1.5f, 1.00390625f}))
                   .Add("f8", "F8_E4M3", "[5]", Bytes<uint8_t>({0x00, 0x01, 0x3C, 0x7E, 0xFE}))
                   .file());
  std::vector<WeightRow> rows = {Row("bf16", {2}), Row("f16", {3}), Row("f32", {2}),
                                 Row("f8", {5})};
  std::map<std::string, std::vector<float>> floats, rounded;
  std::mutex mutex;
  for (WeightRow& row : rows) {
    row.dtypes = {DType::kBf16, DType::kF16, DType::kF32, DType::kF8E4M3};
    row.place = [&](const TensorData& data) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(data.data) % DTypeBytes(data.dtype), 0u);
      std::vector<float> out(data.count());
      data.ToFloat(0, data.count(), out.data());
      std::vector<Bf16> halves(data.count());
      data.ToBf16(0, data.count(), halves.data());
      std::lock_guard lock(mutex);
      floats[data.name] = out;
      for (Bf16 x : halves) rounded[data.name].push_back(ToFloat(x));
      return Status();
    };
  }
  Team team(2);
  const Status status = LoadWeights(*CheckpointSource(*file.checkpoint), rows, team);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_THAT(floats["bf16"], ElementsAre(1.5f, -2.0f));
  EXPECT_THAT(floats["f16"], ElementsAre(1.5f, -2.0f, 0x1p-24f));
  EXPECT_THAT(floats["f32"], ElementsAre(1.5f, 1.00390625f));
  EXPECT_THAT(floats["f8"], ElementsAre(0.0f, 0x1p-9f, 1.5f, 448.0f, -448.0f));
  EXPECT_THAT(rounded["bf16"], ElementsAre(1.5f, -2.0f));
  EXPECT_THAT(rounded["f32"], ElementsAre(1.5f, 1.0f));  // half way, to even
}

TEST(LoadWeights, RefusesNonFiniteValuesByTensorAndElement) {
  const struct {
    const char *dtype, *shape;
    std::string data;
    const char* says;
  } kCases[] = {
      {"BF16", "[3]", Bytes<uint16_t>({1, 2, 0x7F80}), "element 2 is NaN or infinite"},
      {"BF16", "[2]", Bytes<uint16_t>({0xFFC0, 0}), "element 0"},
      {"F16", "[2]", Bytes<uint16_t>({0x7BFF, 0xFC00}), "element 1"},
      {"F32", "[2]", Bytes<float>({3e38f, std::nanf("")}), "element 1"},
      {"F8_E4M3", "[3]", Bytes<uint8_t>({0x7E, 0xFE, 0xFF}), "element 2"},
  };
  for (const auto& c : kCases) {
    OneFile file(SafetensorsBuilder().Add("w", c.dtype, c.shape, c.data).file());
    std::vector<WeightRow> rows = RowsOf(*file.checkpoint);
    rows[0].dtypes = {DType::kBf16, DType::kF16, DType::kF32, DType::kF8E4M3};
    Team team(1);
    const auto source = CheckpointSource(*file.checkpoint);
    EXPECT_THAT(LoadWeights(*source, rows, team).message(),
                AllOf(HasSubstr(file.path), HasSubstr("tensor \"w\""), HasSubstr(c.says)));
    EXPECT_TRUE(LoadWeights(*source, rows, team, {.refuse_non_finite = false}).ok());
  }
}

TEST(LoadWeights, EndsAtTheFirstErrorOfARow) {
  const auto checkpoint = Checkpoint::Open(kGolden);
  std::vector<WeightRow> rows = RowsOf(*checkpoint);
  Team team(2);
  const auto source = CheckpointSource(*checkpoint);
  rows[3].place = [](const TensorData&) { return Error(Code::kUnsupported, "odd scale"); };
  Status status = LoadWeights(*source, rows, team);
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("model.safetensors"), HasSubstr(rows[3].name),
                                      HasSubstr("odd scale")));
  rows[3].place = [](const TensorData&) -> Status { throw std::bad_alloc(); };
  status = LoadWeights(*source, rows, team);
  EXPECT_EQ(status.code(), Code::kOutOfMemory);
  EXPECT_THAT(status.message(), HasSubstr(rows[3].name));
  rows[3] = Row("absent", {1});
  EXPECT_THAT(LoadWeights(*source, rows, team).message(), HasSubstr("absent is missing"));
  rows[3] = Row("lm_head.weight", {1});
  EXPECT_THAT(LoadWeights(*source, rows, team).message(),
              HasSubstr("lm_head.weight [1] is absent or of another shape"));
}

TEST(LoadWeights, RefusesAFileThatShrinksOrIsWrittenToMeanwhile) {
  SafetensorsBuilder builder;
  const std::string large(1 << 20, '\1');
  builder.Add("first", "U8", "[1048576]", large).Add("second", "U8", "[1048575]", large.substr(1));
  for (const bool shrink : {true, false}) {
    OneFile file(builder.file());
    std::vector<WeightRow> rows = RowsOf(*file.checkpoint);
    for (WeightRow& row : rows) row.dtypes = {DType::kU8};
    rows[0].place = [&](const TensorData&) {
      usleep(20'000);  // past the grain of the file system's clock
      if (shrink)
        EXPECT_EQ(truncate(file.path.c_str(), 4096), 0);
      else
        WriteTo(file.path, builder.file());
      return Status();
    };
    rows[1].place = [&](const TensorData& data) {
      int sum = 0;
      for (int64_t i = 0; i < data.count(); i += 512) sum += data.As<uint8_t>()[i];
      return sum == 2048 ? Status() : Status(Code::kInternal, "wrong sum");
    };
    Team team(1);
    const Status status = LoadWeights(*CheckpointSource(*file.checkpoint), rows, team);
    EXPECT_EQ(status.code(), Code::kBadCheckpoint);
    EXPECT_THAT(status.message(), HasSubstr(file.path));
    EXPECT_THAT(status.message(), HasSubstr(shrink ? "changed while in use: 4096 bytes"
                                                   : "was written to while in use"));
  }
}

// What a dummy source gives, by row name.
std::map<std::string, std::vector<float>> Dummy(uint64_t seed, const std::vector<WeightRow>& table,
                                                int lanes) {
  std::vector<WeightRow> rows = table;
  std::map<std::string, std::vector<float>> out;
  std::mutex mutex;
  for (WeightRow& row : rows)
    row.place = [&](const TensorData& data) {
      std::vector<float> values(data.count());
      data.ToFloat(0, data.count(), values.data());
      std::lock_guard lock(mutex);
      out[data.name] = values;
      return Status();
    };
  Team team(lanes);
  const auto source = DummySource(seed);
  EXPECT_TRUE(source->Check(rows, nullptr).ok());
  const Status status = LoadWeights(*source, rows, team);
  EXPECT_TRUE(status.ok()) << status.message();
  return out;
}

std::vector<WeightRow> DummyTable() {
  std::vector<WeightRow> rows;
  for (int i = 0; i < 20; ++i) rows.push_back(Row(fmt::format("w{}", i), {37, 101}));
  rows.push_back(Row("large", {1000, 1001}));
  rows.back().dummy = DummyInit::Normal(0.5f);
  rows.push_back(Row("norm", {7}));
  rows.back().dummy = DummyInit::Ones();
  rows.push_back(Row("bias", {5}));
  rows.back().dummy = DummyInit::Zeros();
  rows.back().dtypes = {DType::kF32};
  rows.push_back(Row("optional", {5}));
  rows.back().required = false;
  return rows;
}

TEST(DummySource, DependsOnSeedAndNameOnly) {
  const auto one = Dummy(1, DummyTable(), 1);
  EXPECT_EQ(one, Dummy(1, DummyTable(), 3));
  const auto other = Dummy(2, DummyTable(), 1);
  EXPECT_NE(one.at("w0"), other.at("w0"));
  EXPECT_NE(one.at("w0"), one.at("w1"));
  EXPECT_FALSE(one.contains("optional"));
  std::vector<WeightRow> shorter = {Row("w0", {5})};  // a prefix: element by element
  EXPECT_EQ(Dummy(1, shorter, 1).at("w0"),
            std::vector<float>(one.at("w0").begin(), one.at("w0").begin() + 5));
}

TEST(DummySource, HasTheMomentsThatTheRowAsksFor) {
  const auto values = Dummy(7, DummyTable(), 2);
  double sum = 0, squares = 0;
  for (float x : values.at("large")) {
    sum += x;
    squares += double{x} * x;
  }
  const double n = static_cast<double>(values.at("large").size());
  EXPECT_NEAR(sum / n, 0, 0.002);
  EXPECT_NEAR(std::sqrt(squares / n), 0.5, 0.002);
  EXPECT_THAT(values.at("norm"), testing::Each(1.0f));
  EXPECT_THAT(values.at("bias"), testing::Each(0.0f));
}

TEST(DummySource, GivesFp8CodesWhereTheConfigSaysSo) {
  QuantizationConfig config;
  config.ignored = ModuleNames({"head"});
  std::vector<WeightRow> rows = {Row("a.weight", {200, 300}), Row("head.weight", {4, 4}),
                                 Row("norm.weight", {4})};
  for (int r : {0, 1}) rows[r].dtypes = {DType::kF8E4M3, DType::kBf16};
  rows[0].dummy = DummyInit::Normal(112);
  const auto source = DummySource(3, config);
  EXPECT_EQ(source->Find(rows[0])->dtype, DType::kF8E4M3);
  EXPECT_EQ(source->Find(rows[0])->bytes(), 60'000u);
  EXPECT_EQ(source->Find(rows[1])->dtype, DType::kBf16);
  EXPECT_EQ(source->Find(rows[2])->dtype, DType::kBf16);
  EXPECT_EQ(DummySource(3)->Find(rows[0])->dtype, DType::kBf16);
  double sum = 0, squares = 0;
  std::set<float> distinct;
  rows[0].place = [&](const TensorData& data) {
    std::vector<float> values(data.count());
    data.ToFloat(0, data.count(), values.data());
    for (float x : values) {
      EXPECT_TRUE(std::fabs(x) <= 448) << x;
      sum += x;
      squares += double{x} * x;
      distinct.insert(x);
    }
    return Status();
  };
  Team team(1);
  const Status status = LoadWeights(*source, rows, team);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_NEAR(sum / 60'000, 0, 1.5);
  EXPECT_NEAR(std::sqrt(squares / 60'000), 112, 2);
  EXPECT_GT(distinct.size(), 60u);
}

TEST(DummySource, RefusesARowThatTakesNoFloats) {
  std::vector<WeightRow> rows = {Row("codes", {4})};
  rows[0].dtypes = {DType::kF8E4M3};
  EXPECT_THAT(DummySource(1)->Check(rows, nullptr).message(),
              HasSubstr("codes accepts only F8_E4M3"));
}

}  // namespace
}  // namespace sluice
