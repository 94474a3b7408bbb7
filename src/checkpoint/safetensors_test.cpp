#include "checkpoint/safetensors.h"

#include <gmock/gmock.h>

#include <ctime>

#include "base/mapped_file.h"
#include "base/random.h"
#include "checkpoint/safetensors_builder.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::ElementsAre;
using testing::HasSubstr;

Result<SafetensorsHeader> Read(std::string_view file) {
  return ParseSafetensors(std::as_bytes(std::span(file)), file.size(), "m.safetensors");
}

Result<SafetensorsHeader> ReadHeader(std::string_view header, size_t data_bytes = 4) {
  return Read(SafetensorsFile(header, std::string(data_bytes, '\0')));
}

// A header with one U8 tensor "a"; `fields` completes it.
std::string One(std::string_view fields) { return fmt::format("{{\"a\":{{{}}}}}", fields); }

std::string WithLength(uint64_t header_bytes) {
  std::string file =
      SafetensorsFile(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", "1234");
  std::memcpy(file.data(), &header_bytes, 8);
  return file;
}

TEST(SafetensorsHeader, ReadsTensorsInFileOrderAndMetadata) {
  const auto header = ReadHeader(
      R"({"__metadata__":{"format":"pt","b":""},
          "late":{"dtype":"BF16","shape":[1,3],"data_offsets":[4,10]},
          "scalar":{"data_offsets":[0,4],"shape":[],"dtype":"F32"},
          "empty":{"dtype":"I64","shape":[7,0],"data_offsets":[4,4]}}   )",
      10);
  ASSERT_TRUE(header.ok()) << header.status().message();
  ASSERT_EQ(header->tensors.size(), 3u);
  EXPECT_EQ(header->tensors[0].name, "scalar");
  EXPECT_THAT(header->tensors[0].shape, ElementsAre());
  EXPECT_EQ(header->tensors[1].name, "empty");
  EXPECT_EQ(header->tensors[2].name, "late");
  EXPECT_EQ(header->tensors[2].dtype, DType::kBf16);
  EXPECT_THAT(header->tensors[2].shape, ElementsAre(1, 3));
  EXPECT_EQ(header->tensors[2].begin, 4u);
  EXPECT_EQ(header->tensors[2].end, 10u);
  EXPECT_EQ(header->metadata.at("format"), "pt");
  EXPECT_TRUE(ReadHeader("{}", 0).ok());
}

TEST(SafetensorsHeader, ReadsEveryDType) {
  for (DType dtype :
       {DType::kF32, DType::kBf16, DType::kF16, DType::kF8E4M3, DType::kI64, DType::kI32,
        DType::kI16, DType::kI8, DType::kU8, DType::kBool, DType::kF64}) {
    const auto header = Read(SafetensorsBuilder()
                                 .Add("a", DTypeName(dtype), "[3]",
                                      std::string(3 * static_cast<size_t>(DTypeBytes(dtype)), '\0'))
                                 .file());
    ASSERT_TRUE(header.ok()) << header.status().message();
    EXPECT_EQ(header->tensors[0].dtype, dtype);
  }
}

TEST(SafetensorsHeader, RefusesEachBadLengthAndNamesIt) {
  const struct {
    std::string lie, file, says;
  } kLies[] = {
      {"empty", "", "0 bytes is no safetensors file"},
      {"seven bytes", "1234567", "7 bytes is no safetensors file"},
      {"no header", WithLength(0), "header of 0 bytes in a file of 65, allowed are 2 to 57"},
      {"over the file", WithLength(58), "header of 58 bytes in a file of 65, allowed are 2 to 57"},
      {"over 100 MB", WithLength(100'000'001), "header of 100000001 bytes"},
      {"2^64 - 1", WithLength(~0ull), "header of 18446744073709551615 bytes"},
      {"2^64 - 8", WithLength(~0ull - 7), "header of 18446744073709551608 bytes"},
      {"not {", SafetensorsFile(" {}", ""), "header starts with \" \""},
  };
  for (const auto& [lie, file, says] : kLies) {
    const auto header = Read(file);
    EXPECT_THAT(header.status().message(), AllOf(HasSubstr("m.safetensors"), HasSubstr(says)))
        << lie;
    EXPECT_EQ(header.status().code(), Code::kBadCheckpoint) << lie;
  }
}

TEST(SafetensorsHeader, RefusesEachLieAndNamesIt) {
  const struct {
    std::string lie, header, says;
  } kLies[] = {
      {"not UTF-8", One("\"dtype\":\"U8\xff\""), "not valid JSON at byte"},
      {"not JSON", "{\"a\":}", "not valid JSON at byte"},
      {"cut", "{\"a\":{\"dtype\":\"U8\"", "not valid JSON"},
      {"text behind", "{}{}", "unexpected text after the JSON"},
      {"an array in it", "{\"a\":[1]}", "entry \"a\" is an array, allowed are objects"},
      {"a number in it", "{\"a\":1}", "entry \"a\" is 1, allowed are objects"},
      {"metadata no object", "{\"__metadata__\":\"x\"}", "entry \"__metadata__\" is a string"},
      {"metadata number", R"({"__metadata__":{"k":1}})",
       "__metadata__ \"k\" is 1, allowed are strings"},
      {"metadata null", R"({"__metadata__":{"k":null}})", "__metadata__ \"k\" is null"},
      {"metadata object", R"({"__metadata__":{"k":{}}})", "__metadata__ \"k\" is an object"},
      {"metadata array", R"({"__metadata__":{"k":[]}})", "__metadata__ \"k\" is an array"},
      {"metadata twice", R"({"__metadata__":{},"__metadata__":{}})", "__metadata__ occurs twice"},
      {"metadata key twice", R"({"__metadata__":{"k":"","k":""}})", "two entries \"k\""},
      {"empty name", R"({"":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", "an empty name"},
      {"name twice", R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},
                         "a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
       "tensor \"a\" occurs twice"},
      {"long name", "{\"" + std::string(5000, 'x') + "\":{}}", "longer than 4096 bytes"},
      {"dtype absent", One(R"("shape":[4],"data_offsets":[0,4])"), "tensor \"a\" lacks dtype"},
      {"shape absent", One(R"("dtype":"U8","data_offsets":[0,4])"), "tensor \"a\" lacks shape"},
      {"offsets absent", One(R"("dtype":"U8","shape":[4])"), "tensor \"a\" lacks data_offsets"},
      {"field twice", One(R"("dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4])"),
       "tensor \"a\" has two fields dtype"},
      {"strange field", One(R"("dtype":"U8","shape":[4],"data_offsets":[0,4],"x":1)"),
       "tensor \"a\" has a field \"x\""},
      {"unknown dtype", One(R"("dtype":"Q9","shape":[4],"data_offsets":[0,4])"),
       "tensor \"a\" has dtype \"Q9\", supported are BF16, F32"},
      {"sub-byte dtype", One(R"("dtype":"F4","shape":[8],"data_offsets":[0,4])"),
       "tensor \"a\" has dtype \"F4\", supported are"},
      {"dtype number", One(R"("dtype":1)"), "dtype is or holds 1, allowed are strings"},
      {"dtype array", One(R"("dtype":["U8"])"), "dtype is or holds an array"},
      {"shape string", One(R"("shape":"4")"), "shape is or holds a string"},
      {"shape object", One(R"("shape":{})"), "shape is or holds an object"},
      {"shape nested", One(R"("shape":[[4]])"), "not valid JSON"},
      {"dimension negative", One(R"("shape":[-4])"), "shape is or holds -4"},
      {"dimension fractional", One(R"("shape":[1.5])"), "shape is or holds 1.5"},
      {"dimension 1e400", One(R"("shape":[1e400])"), "shape is or holds inf"},
      {"dimension null", One(R"("shape":[null])"), "shape is or holds null"},
      {"dimension string", One(R"("shape":["4"])"), "shape is or holds a string"},
      {"dimension 2^63", One(R"("shape":[9223372036854775808])"),
       "a dimension of 9223372036854775808"},
      {"nine dimensions", One(R"("shape":[1,1,1,1,1,1,1,1,1])"), "more than 8 dimensions"},
      {"product over 2^64",
       One(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,4])"),
       "[4294967296, 4294967296] has more than 2^63 bytes"},
      {"bytes over 2^63",
       One(R"("dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,4])"),
       "more than 2^63 bytes"},
      {"product wraps to 4",
       One(R"("dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4])"),
       "more than 2^63 bytes"},
      {"one offset", One(R"("data_offsets":[0])"), "1 data_offsets, allowed are 2"},
      {"three offsets", One(R"("data_offsets":[0,4,4])"), "3 data_offsets, allowed are 2"},
      {"offset true", One(R"("data_offsets":[0,true])"), "data_offsets is or holds true"},
      {"reversed", One(R"("dtype":"U8","shape":[4],"data_offsets":[4,0])"),
       "tensor \"a\" claims bytes [4, 0)"},
      {"past the end", One(R"("dtype":"U8","shape":[5],"data_offsets":[0,5])"),
       "tensor \"a\" claims bytes [0, 5) of a data section of 4"},
      {"far past the end",
       One(R"("dtype":"U8","shape":[4],"data_offsets":[18446744073709551611,18446744073709551615])"),
       "claims bytes [18446744073709551611, 18446744073709551615) of a data section of 4"},
      {"wrong size", One(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])"),
       "claims bytes [0, 4), but F32 [2] needs 8 bytes"},
      {"hole at the start", One(R"("dtype":"U8","shape":[3],"data_offsets":[1,4])"),
       "claims bytes [1, 4), but nothing covers from byte 0"},
      {"surplus", One(R"("dtype":"U8","shape":[3],"data_offsets":[0,3])"),
       "the tensors end at byte 3 of a data section of 4: 1 bytes too many"},
      {"hole", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
                   "b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
       "tensor \"b\" claims bytes [2, 4), but nothing covers from byte 1"},
      {"overlap", R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},
                      "b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
       "tensor \"b\" claims bytes [2, 4), but its neighbour ends at byte 3"},
      {"same place twice", R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
                               "b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
       "tensor \"b\" claims bytes [0, 4), but its neighbour ends at byte 4"},
      {"nothing claimed", "{}", "4 bytes too many"},
  };
  for (const auto& [lie, header, says] : kLies) {
    const auto result = ReadHeader(header);
    EXPECT_THAT(result.status().message(), AllOf(HasSubstr("m.safetensors"), HasSubstr(says)))
        << lie;
    EXPECT_EQ(result.status().code(), Code::kBadCheckpoint) << lie;
  }
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr double kSecondsMax = 15;
#else
constexpr double kSecondsMax = 1;
#endif

// Of this process: what a busy neighbour takes does not count.
double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

TEST(SafetensorsHeader, AnswersBombsInUnderASecond) {
  std::string deep(100'000, '[');
  std::string tensors = "{";
  for (int i = 0; i <= kSafetensorsTensorsMax; ++i) {
    tensors += "\"" + std::to_string(i);
    tensors += "\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},";
  }
  tensors.back() = '}';
  std::string equal = "{";
  for (int i = 0; i < kSafetensorsTensorsMax; ++i)
    equal += "\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},";
  equal.back() = '}';
  std::string metadata = "{\"__metadata__\":{";
  for (int i = 0; i < 1'000'000; ++i) metadata += "\"" + std::to_string(i) + "\":\"\",";
  metadata += "\"x\":\"\"}}";
  const struct {
    std::string bomb, header, says;
  } kBombs[] = {
      {"10^5 deep", "{\"a\":" + deep, "entry \"a\" is an array"},
      {"10^5 objects deep",
       [] {
         std::string text;
         for (int i = 0; i < 100'000; ++i) text += "{\"a\":";
         return text;
       }(),
       "dtype"},
      {"too many tensors", tensors, "more than 500000 tensors"},
      {"a million metadata entries", metadata, "more than 10000 metadata entries"},
      {"as many equal tensors as allowed", equal, "tensor \"a\" occurs twice"},
      {"spaces", "{" + std::string(90'000'000, ' '), "not valid JSON"},
  };
  for (const auto& [bomb, header, says] : kBombs) {
    const std::string file = SafetensorsFile(header, "");
    const double begin = CpuSeconds();
    const auto result = Read(file);
    EXPECT_LT(CpuSeconds() - begin, kSecondsMax) << bomb;
    EXPECT_THAT(result.status().message(), HasSubstr(says)) << bomb;
  }
}

// Damage to a real header: whatever is accepted still describes the file exactly.
TEST(SafetensorsHeader, AcceptsNoStructuralDamageOfAGoldenFile) {
  const std::string path = SLUICE_SOURCE_DIR "/tests/golden/ling25/model.safetensors";
  const auto original = ReadFile(path, 16 << 20);
  ASSERT_TRUE(original.ok()) << original.status().message();
  const auto good = Read(*original);
  ASSERT_TRUE(good.ok()) << good.status().message();

  constexpr uint64_t kSeed = 20;
  SplitMix64 random(kSeed);
  int refused = 0;
  for (int round = 0; round < 200; ++round) {
    std::string file = original->substr(0, good->data_begin);
    const size_t at = random.Below(file.size());
    file[at] = static_cast<char>(file[at] ^ (1 << random.Below(8)));
    const auto result =
        ParseSafetensors(std::as_bytes(std::span(file)), original->size(), "m.safetensors");
    if (!result.ok()) {
      ++refused;
      continue;
    }
    // Harmless: only a name, or a dtype or shape of the same size, can have changed.
    ASSERT_EQ(result->tensors.size(), good->tensors.size()) << "seed " << kSeed << " " << round;
    for (size_t t = 0; t < good->tensors.size(); ++t)
      EXPECT_EQ(result->tensors[t].end - result->tensors[t].begin,
                good->tensors[t].end - good->tensors[t].begin);
  }
  EXPECT_GT(refused, 50);

  for (int round = 0; round < 200; ++round) {  // truncation anywhere is refused
    const size_t size = random.Below(original->size());
    EXPECT_FALSE(Read(std::string_view(*original).substr(0, size)).ok()) << size;
  }
  EXPECT_FALSE(Read(*original + "x").ok());
}

}  // namespace
}  // namespace sluice
